"""Project files of other tools, read for their references to artifacts."""
