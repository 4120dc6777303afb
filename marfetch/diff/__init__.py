"""What changed between two artifacts."""
