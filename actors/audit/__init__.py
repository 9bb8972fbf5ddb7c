"""What proves the log to somebody else, and what may leave it: everything but serving sessions."""
