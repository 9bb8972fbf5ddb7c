"""The database's schema, one revision a file."""
