"""Run a command and record what it asks of MAR, or answer it from a recording, without a network."""
