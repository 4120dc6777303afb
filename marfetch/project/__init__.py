"""A project: what is wanted (`marfetch.yaml`), what was found (`marfetch.lock`), and the way from there to files."""
