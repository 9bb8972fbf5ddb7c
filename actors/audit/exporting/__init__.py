"""Sessions as files that prove themselves, as transcripts for people, and back into a log."""
