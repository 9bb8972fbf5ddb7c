"""Whether the log is what was appended: the chain, the projections, the checkpoints."""
