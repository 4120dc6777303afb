"""Remote registries: oras-py as a source of content, with its unsafe parts replaced (`docs/design.md`).

To keep the start fast, most of it is imported only before the first request, by `client.connect`.
"""
