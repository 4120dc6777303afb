"""Fuzzing of everything that reads foreign bytes: one table of targets (`targets.py`), run briefly by `make test` and for as long as
one likes by `make fuzz`."""
