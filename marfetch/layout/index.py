"""The two files that make a layout (image-spec, image layout, "oci-layout file" and "index.json file"), read strictly from bytes.

Unlike the names of the cache, which are kept by `names`, nothing is mended here: what is wrong is an error.
"""

from __future__ import annotations

from typing import Final

from ..document import parse_json
from ..errors import Error, IntegrityError, PolicyError
from ..oci import MAX_LAYOUT_ENTRIES, OCI_INDEX, parse_descriptors
from .blobs import Entry
from .names import REF_NAME

MAX_INDEX_SIZE: Final = 64 << 20
"""Largest `index.json` in bytes: some 200,000 entries."""
MAX_MARKER_SIZE: Final = 64 << 10
"""Largest `oci-layout` in bytes."""


def check_marker(data: bytes, where: str) -> None:
    """Make sure that `oci-layout` is of the version that is known here.

    Raises:
        IntegrityError: `malformed`.
    """
    document = parse_json(data, f"`oci-layout` of `{where}`")
    version = document.get("imageLayoutVersion") if isinstance(document, dict) else None
    if not isinstance(version, str) or not version.startswith("1."):
        raise IntegrityError(
            f"`{where}` is not an OCI image layout of version 1: `imageLayoutVersion` is `{version}`",
            code="malformed",
            hint="use a version of marfetch that knows this layout",
            path=where,
        )


def parse_index(data: bytes, where: str) -> list[Entry]:
    """Read `index.json`.

    Raises:
        IntegrityError: `malformed`.
        PolicyError: `limit-passed`.
    """
    what = f"the index `index.json` of `{where}`"
    document = parse_json(data, what, most=3 * MAX_LAYOUT_ENTRIES)
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise IntegrityError(f"{what} is malformed: it is no object whose `schemaVersion` is 2", code="malformed", path=where)
    if document.get("mediaType", OCI_INDEX) != OCI_INDEX:
        raise IntegrityError(f"{what} is malformed: its `mediaType` is not `{OCI_INDEX}`", code="malformed", path=where)
    return [(entry.annotations.get(REF_NAME), entry) for entry in parse_descriptors(document, what=what, name="manifests")]


def missing_index(where: str) -> Error:
    """The error for a layout without its index."""
    return IntegrityError(f"the layout `{where}` is malformed: `index.json` is missing", code="malformed", path=where)


def too_large(name: str, where: str, most: int) -> Error:
    """The error for a file that is larger than anybody needs."""
    return PolicyError(f"`{name}` of `{where}` has more than {most} bytes", code="limit-passed", path=where, rule=f"at most {most} bytes")
