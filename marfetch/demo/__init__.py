"""A guided tour (`tour`) on an embedded registry that looks like MAR, with generated content (`recipe`)."""
