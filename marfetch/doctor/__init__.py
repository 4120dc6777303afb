"""Diagnose why MAR cannot be reached: each finding says what was seen, what it means and what to do."""
