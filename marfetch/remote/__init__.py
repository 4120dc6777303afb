"""Access to remote registries through oras-py, with its unsafe parts replaced (`docs/design.md`).

To keep the start fast, `client.connect` imports most of this package only before the first request.
"""
