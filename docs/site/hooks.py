"""A hook of MkDocs: the pages of the site load nothing from other hosts."""

from __future__ import annotations

import re

LOADED = re.compile(
    r"<(?:script|link|img|iframe|source|object|embed)\b[^>]*?\b(?:src|href|data|srcset)=[\"']?((?:https?:)?//[^\"'\s>]+)", re.IGNORECASE
)


def on_post_page(output: str, **_: object) -> str:
    """Return the page unchanged. Exit if a browser would load something from another host when it opens the page."""
    if found := LOADED.findall(output):
        raise SystemExit(f"docs/site: a page loads {found[0]}: put it into docs/, or turn it off in docs/site/mkdocs.yml")
    return output
