"""Falcon resources: one module for each kind of thing that the gateway serves."""
