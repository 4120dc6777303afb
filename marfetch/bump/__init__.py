"""Write newer versions of artifacts into the files of a project."""
