"""Bundles: all artifacts of a lock in one archive, an OCI image layout in a tar; create, check and load them."""
