"""Run a command and record its requests to MAR, or answer its requests from a recording, without a network."""
