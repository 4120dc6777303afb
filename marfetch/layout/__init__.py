"""OCI image layouts on disk as sources and targets (image-spec, image layout). The cache is such a layout."""
