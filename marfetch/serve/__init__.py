"""A layout as a read-only registry: the honest one, for the demo, the tests and, by `marfetch serve`, for users."""
