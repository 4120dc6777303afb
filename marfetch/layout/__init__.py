"""An OCI image layout on disk as a source and a target of content (image-spec, image layout). The cache is one."""
