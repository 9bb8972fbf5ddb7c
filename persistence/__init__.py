"""The event log: append-only streams of events with a hash chain, and their snapshots."""
