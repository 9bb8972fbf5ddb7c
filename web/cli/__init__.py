"""The command line ``sessiond``: one module for each group of commands, and what they share."""
