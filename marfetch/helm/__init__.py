"""What Helm calls: the getter behind `mar://`, and the plugins that `setup` puts into its folder."""
