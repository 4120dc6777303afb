"""Projects: the project file (`marfetch.yaml`), its lock (`marfetch.lock`), and the sync from lock to files."""
