"""Shell completion from the command table and the cache, without requests."""
