"""Tools: what a model can have done, each within the limits of its session's workspace."""
