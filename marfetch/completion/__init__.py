"""Shell completion: what can stand at the cursor, from the cache alone."""
