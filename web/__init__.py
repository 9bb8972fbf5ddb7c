"""The HTTP gateway: resources over actors, and everything that starts a process."""
