"""Serve a layout as a read-only registry, for `marfetch serve`, the demo and the tests."""
