"""Compare two artifacts."""
