"""Sessions as actors: each decides, appends to its event log, and publishes what is committed."""
