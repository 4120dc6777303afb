"""Bundles: one tar archive (an OCI image layout) with everything in a lock file, to carry into another network."""
