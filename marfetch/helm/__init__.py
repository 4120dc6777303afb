"""Helm integration: the getter for `mar://` addresses, and the plugins that `setup` installs."""
