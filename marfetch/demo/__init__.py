"""The guided tour on an embedded look-alike of MAR: what it serves (`recipe`) and where it leads (`tour`)."""
