"""Bundles: everything that a lock names in one archive, an OCI image layout in a tar, and its way to another place."""
