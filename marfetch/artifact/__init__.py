"""Kinds of artifacts, their payloads, file names and lifecycle. Pure functions over the types of `marfetch.oci`."""
