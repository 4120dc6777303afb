"""What a manifest is: kinds, payloads, file names, lifecycle. Pure decisions over values of `marfetch.oci`."""
