"""Fuzz all code that reads untrusted bytes. `targets.py` lists the targets. `make test` runs them briefly, and `make fuzz` for as long
as you choose."""
