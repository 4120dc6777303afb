"""The client: everything one asks of a registry, through the cache."""
