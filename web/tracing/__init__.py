"""Runs, and their model and tool calls, told to a collector as OpenTelemetry has it."""
