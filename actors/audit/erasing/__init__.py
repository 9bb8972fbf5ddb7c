"""What is taken out of the log, on demand and with age, while its chain stays right."""
