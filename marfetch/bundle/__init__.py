"""Bundles: a tar archive (an OCI image layout) with every artifact in a lock file, to carry into another network."""
