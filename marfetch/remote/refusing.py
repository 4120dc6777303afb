"""The methods of oras-py's registry that marfetch does not use, each refused: none of them is safe, or keeps original bytes."""

from __future__ import annotations

from typing import Any, NoReturn

import oras.provider


def refuse() -> NoReturn:
    """Say that a method of oras-py is not for use.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("this method of oras-py is not used by marfetch (docs/design.md)")


class RefusingRegistry(oras.provider.Registry):
    """`oras.provider.Registry` without everything that would ask, write or send on its own way (oras-py 0.2.43)."""

    def get_manifest(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: checks no digest, reads without limit. `manifest` is there for it."""
        refuse()

    def get_tags(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: follows pages to any host. `tags` is there for it."""
        refuse()

    def get_blob(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: checks nothing. `fetch` is there for it."""
        refuse()

    def download_blob(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: writes the final name, checks nothing. `content.copy` is there for it."""
        refuse()

    def refused(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: where marfetch writes (`remote.push`), it keeps the original bytes, which oras-py does not."""
        refuse()

    _download_blob = download_blob
    blob_exists = pull = push = upload_blob = put_upload = chunked_upload = upload_manifest = refused
    _do_paginated_request = refused
    _put_upload = _chunked_upload = _upload_blob = _upload_manifest = delete_tag = delete_tags = login = logout = refused
