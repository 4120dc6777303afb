"""The HTML page for the person who approves a transfer: contents, origins, sizes, signers and end-of-life dates of a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

from ..text import human_size
from .format import Base
from .inventory import BundleItem, pull_commands
from .webpage import ArtifactSections, code, copied, document

_BUNDLE: Final = "bundle.tar"
"""A placeholder for the path of the bundle in commands. The page is inside the bundle, so it cannot know the path."""
_TOOLS: Final = ("helm", "oras", "marfetch")


def approval_page(items: Sequence[BundleItem], base: Base | None) -> bytes:
    """Return the approval page as HTML. Equal bundles give equal bytes, so the page has no date and no machine name."""
    return document("What is in this bundle", _header(items), _main(items, base))


def _header(items: Sequence[BundleItem]) -> Iterator[str]:
    hosts = sorted({str(item.reference.host) for item in items if item.reference.host})
    yield '<p class="brand">Transfer approval</p><h1>What is in this bundle</h1>'
    yield (
        "<p>Written by the sender's marfetch for the person who approves the transfer."
        + (f" The artifacts come from {', '.join(map(code, hosts))}." if hosts else "")
        + " <code>marfetch bundle verify</code> checks every byte of the bundle offline, this page included.</p>"
    )


def _main(items: Sequence[BundleItem], base: Base | None) -> Iterator[str]:
    hint = (
        f'<div class="start"><p>In the commands, {code(_BUNDLE)} is the path of this bundle. Helm and marfetch fetch from it while'
        f" this command runs:</p>{copied(f'marfetch serve {_BUNDLE}')}</div>"
    )
    shown = ArtifactSections(items, "bundle", _commands, hint)
    yield shown.cards()
    if base is not None:
        left_out = human_size(sum(item.omitted for item in items))
        yield (
            f'<p class="notice"><strong>This is a delta.</strong> It leaves out {left_out} of content that its base bundle has.'
            f" Load the base first: {code(base.digest)}</p>"
        )
    yield from shown.sections()


def _commands(item: BundleItem) -> Iterator[tuple[str, str]]:
    found = pull_commands(item, PurePosixPath(_BUNDLE), is_folder=False)
    for tool in _TOOLS:
        for line in found.get(tool, ()):
            if not line.endswith("&"):
                yield tool, line
