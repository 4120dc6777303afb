"""Benchmarks against other clients in the same run, as ratios. Run `make bench`; `docs/performance.md` has the latest results."""
