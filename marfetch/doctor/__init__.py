"""Diagnose why MAR cannot be reached. Every finding has an observation, its meaning, and what to do."""
