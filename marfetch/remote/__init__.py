"""A registry over oras-py as a source of content, with the parts of oras-py that are not safe replaced (`docs/design.md`).

Nothing here is imported before a request is needed: `client.connect` does it.
"""
