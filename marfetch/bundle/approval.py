"""The page for the person who approves a transfer: what is in the bundle, from where, how much, who signed it, and until when it lives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ..text import human_size
from .format import Base
from .html import SEARCH, code, document, facts, listed, text
from .inventory import BundleItem, BundleReferrer


def approval_page(items: Sequence[BundleItem], base: Base | None) -> bytes:
    """The page; the same for the same content, so it names no time and no machine."""
    return document("What is in this bundle", _body(items, base))


def _body(items: Sequence[BundleItem], base: Base | None) -> Iterator[str]:
    hosts = sorted({str(item.reference.host) for item in items if item.reference.host})
    kinds = Counter(item.title for item in items)
    signed = sum(1 for item in items if item.signatures)
    ending = [item for item in items if item.ends is not None]
    yield "<header><h1>What is in this bundle</h1>"
    yield (
        "<p>For the person who approves its transfer. This page was written when the bundle was made; <code>marfetch bundle verify</code>"
        " compares every byte with it, offline.</p>"
    )
    summary = [
        ("artifacts", f"{len(items)} ({', '.join(f'{count} {text(title)}' for title, count in sorted(kinds.items()))})" if items else "0"),
        ("from", ", ".join(map(code, hosts)) or "-"),
        ("content", human_size(sum(item.size for item in items))),
        ("with a signature", f"{signed} of {len(items)} <span class='soft'>(present, not checked by this page)</span>"),
        ("with an end of life", str(len(ending))),
    ]
    if base is not None:
        left_out = human_size(sum(item.omitted for item in items))
        summary.append(
            (
                "goes on from",
                f"the bundle {code(base.digest)}, which has to be on the other side already: {left_out} of it are left out here",
            )
        )
    yield facts(summary) + "</header>"
    yield from _table(items)
    yield "<h2>Each artifact</h2>"
    for number, item in enumerate(items):
        yield f'<article data-item id="a{number}">{_article(item)}</article>'
    images = sorted({image for item in items for image in item.images})
    yield "<h2>Images that the charts name</h2>"
    yield (
        "<p>As far as values and templates say them in plain text. They are not in this bundle: whoever runs the charts needs them too.</p>"
    )
    yield listed(map(code, images)) if images else "<p>None were found.</p>"


def _table(items: Sequence[BundleItem]) -> Iterator[str]:
    yield "<h2>All artifacts</h2>" + SEARCH
    yield (
        "<table><thead><tr><th>name</th><th>version</th><th>kind</th><th>repository</th><th>signed</th><th>end of life</th>"
        '<th class="number">size</th></tr></thead><tbody>'
    )
    for number, item in enumerate(items):
        yield (
            f'<tr data-item><td><a href="#a{number}">{text(item.name)}</a></td><td>{text(item.version or item.reference.tag or "-")}</td>'
            f"<td>{text(item.title)}</td><td>{code(item.reference.full_repository)}</td><td>{'yes' if item.signatures else 'no'}</td>"
            f'<td>{text(item.ends or "-")}</td><td class="number">{human_size(item.size)}</td></tr>'
        )
    yield "</tbody></table>"


def _article(item: BundleItem) -> str:
    rows = [
        ("from", code(item.reference)),
        ("digest", code(item.descriptor.digest)),
        ("kind", f"{text(item.title)}, {code(item.descriptor.media_type)}"),
        ("size", f"{item.size} bytes" + (f", of which {item.omitted} are left out here" if item.omitted else "")),
        ("created", text(item.created or "not said")),
        ("end of life", text(item.ends or "not said")),
        ("signed by", _signers(item)),
        ("checked when locked", text(item.verdict or "no")),
    ]
    if item.layers:
        rows.append(("content", listed(f"{code(layer.digest)} {layer.size} bytes, {code(layer.media_type)}" for layer in item.layers)))
    if item.referrers:
        rows.append(("refers to it", listed(_referrer(one) for one in item.referrers)))
    if item.images:
        rows.append(("images", listed(map(code, item.images))))
    elif item.kind == "chart" and item.omitted:
        rows.append(("images", "left out with its content: see the page of the bundle that this one goes on from"))
    return f"<h3>{text(item.name)} {text(item.version or '')}</h3>" + facts(rows)


def _signers(item: BundleItem) -> str:
    if not item.signatures:
        return '<span class="bad">no signature in this bundle</span>'
    return listed(
        f"signature {code(one.digest)}, certificates {code(one.signer)}" if one.signer else f"signature {code(one.digest)}"
        for one in item.signatures
    )


def _referrer(one: BundleReferrer) -> str:
    return f"{'of that: ' * one.depth}{text(one.title)} {code(one.digest)} {one.size} bytes, {code(one.artifact_type)}"
