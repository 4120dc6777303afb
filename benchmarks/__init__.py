"""Measurements beside other clients, in one run, as ratios. `make bench`; `docs/performance.md` has the last one that was kept."""
