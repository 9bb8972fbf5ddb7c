"""Runs: a prompt's way through the model and its tools."""
