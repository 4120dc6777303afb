"""The client: list, resolve, inspect and download artifacts through the cache."""
