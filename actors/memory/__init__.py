"""Memory: what is remembered of conversations, and recalled when a model is called."""
