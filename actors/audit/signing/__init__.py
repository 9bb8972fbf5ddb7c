"""Signed checkpoints of the log, and what they prove to whoever has the public key."""
