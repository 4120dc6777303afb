"""The demo: a guided tour (`tour`) with an embedded registry that looks like MAR. Its content is generated (`recipe`)."""
