"""The HTML page for the person who approves a transfer: contents, origins, sizes, signers and end-of-life dates of a bundle."""

from __future__ import annotations

import base64
import hashlib
import html
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ..text import human_size, printable
from .format import Base
from .inventory import BundleItem, BundleReferrer

# -- a self-contained page: it makes no requests, escapes all foreign text, and is readable without JavaScript


STYLE: Final = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; --good: #1a7f37; --bad: #b42318; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --good: #6fd08c; --bad: #ff9d91; --link: #8cc4ff; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 1.5rem; background: Canvas; color: CanvasText; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; } h3 { font-size: 1rem; margin: 0; display: inline; }
p, dl { margin: .4rem 0; max-width: 60rem; }
code, td.digest { font: .86em/1.45 ui-monospace, monospace; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } .facts dt { opacity: .75; } .facts dd { margin: 0; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap; }
details, article { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .9rem; margin: .6rem 0; break-inside: avoid; }
summary { cursor: pointer; } a { color: var(--link); }
.bad { color: var(--bad); font-weight: 600; } .good { color: var(--good); } .soft { opacity: .75; }
input[type=search] { font: inherit; width: min(30rem, 100%); padding: .4rem .6rem; margin: .5rem 0; }
.line { display: flex; gap: .6rem; align-items: baseline; margin: .2rem 0; } .line code { flex: 1; background: var(--soft); padding: .15rem .4rem; border-radius: .25rem; }
button { font: inherit; font-size: .85em; padding: .05rem .6rem; cursor: pointer; }
ul { margin: .3rem 0; padding-left: 1.2rem; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } input, button { display: none !important; } a { color: inherit; text-decoration: none; } }
""".strip()

SCRIPT: Final = """
"use strict";
const field = document.getElementById("search");
if (field) {
  const rows = [...document.querySelectorAll("[data-item]")].map(row => [row, row.textContent.toLowerCase()]);
  const count = document.getElementById("count");
  field.hidden = false;
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    for (const [row, text] of rows) { row.hidden = !words.every(word => text.includes(word)); if (!row.hidden && row.matches("article")) shown += 1; }
    count.textContent = words.length ? shown + " found" : "";
  });
}
addEventListener("beforeprint", () => { for (const details of document.querySelectorAll("details")) details.open = true; });
for (const line of document.querySelectorAll(".line")) {
  const button = document.createElement("button");
  const code = line.querySelector("code");
  button.type = "button";
  button.textContent = "copy";
  button.setAttribute("aria-label", "copy: " + code.textContent);
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(code.textContent); }
    catch {
      const chosen = getSelection(), range = document.createRange();
      range.selectNodeContents(code); chosen.removeAllRanges(); chosen.addRange(range); document.execCommand("copy");
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
  line.append(button);
}
""".strip()


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


POLICY: Final = f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; base-uri 'none'; form-action 'none'"
"""Content security policy of every page."""


def text(value: object) -> str:
    """Escape untrusted text for HTML content or an attribute. Control and bidirectional characters become visible escapes."""
    return html.escape(printable(str(value)), quote=True)


def line(command: str) -> str:
    """Return a command as markup with a copy button."""
    return f'<div class="line"><code>{text(command)}</code></div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a definition list. The first of each pair is text, the second is markup."""
    return '<dl class="facts">' + "".join(f"<dt>{text(name)}</dt><dd>{markup}</dd>" for name, markup in pairs) + "</dl>"


def code(value: object) -> str:
    """Return escaped text in a `code` element."""
    return f"<code>{text(value)}</code>"


def listed(values: Iterable[str]) -> str:
    """Return a bulleted list; the values are markup."""
    return "<ul>" + "".join(f"<li>{value}</li>" for value in values) + "</ul>"


SEARCH: Final = (
    '<input type="search" id="search" hidden placeholder="search" aria-label="search"> <span id="count" class="soft" role="status"></span>'
)
"""Search field; hidden until the script runs."""


def document(title: str, body: Iterable[str]) -> bytes:
    """Return a complete HTML document.

    Args:
        body: markup.
    """
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{text(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + f"\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    ).encode()


def approval_page(items: Sequence[BundleItem], base: Base | None) -> bytes:
    """Return the page. Equal contents give equal bytes, so it names no time and no machine."""
    return document("What is in this bundle", _body(items, base))


def _body(items: Sequence[BundleItem], base: Base | None) -> Iterator[str]:
    hosts = sorted({str(item.reference.host) for item in items if item.reference.host})
    kinds = Counter(item.title for item in items)
    signed = sum(1 for item in items if item.signatures)
    ending = [item for item in items if item.ends is not None]
    yield "<header><h1>What is in this bundle</h1>"
    yield (
        "<p>For the person who approves its transfer. This page was written with the bundle. <code>marfetch bundle verify</code>"
        " checks every byte of the bundle offline, this page included.</p>"
    )
    summary = [
        ("artifacts", f"{len(items)} ({', '.join(f'{count} {text(title)}' for title, count in sorted(kinds.items()))})" if items else "0"),
        ("from", ", ".join(map(code, hosts)) or "-"),
        ("content", human_size(sum(item.size for item in items))),
        ("signed", f"{signed} of {len(items)} <span class='soft'>(signatures are present; this page does not check them)</span>"),
        ("with an end-of-life date", str(len(ending))),
    ]
    if base is not None:
        left_out = human_size(sum(item.omitted for item in items))
        summary.append(
            (
                "base bundle",
                f"{code(base.digest)}; load it first: this delta leaves out {left_out} of its content",
            )
        )
    yield facts(summary) + "</header>"
    yield from _table(items)
    yield "<h2>Artifacts in detail</h2>"
    for number, item in enumerate(items):
        yield f'<article data-item id="a{number}">{_article(item)}</article>'
    images = sorted({image for item in items for image in item.images})
    unread = [f"{text(item.name)} {text(item.version or '')}: {_unread(*one)}" for item in items for one in item.unread.items()]
    yield "<h2>Container images in the charts</h2>"
    yield (
        "<p>Found in plain text in values, templates and CRDs, also of packed sub-charts, so the list may be incomplete. The charts need"
        " these images, but this bundle does not contain them.</p>"
    )
    if images or not unread:
        yield listed(map(code, images)) if images else "<p>None found.</p>"
    if unread:
        yield '<p class="bad">These could not be searched and may name more images:</p>' + listed(unread)


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
        ("size", f"{item.size} bytes" + (f", {item.omitted} of them not in this delta" if item.omitted else "")),
        ("created", text(item.created or "unknown")),
        ("end of life", text(item.ends or "unknown")),
        ("signed by", _signers(item)),
        ("verified when locked", text(item.verdict or "no")),
    ]
    if item.layers:
        rows.append(("content", listed(f"{code(layer.digest)} {layer.size} bytes, {code(layer.media_type)}" for layer in item.layers)))
    if item.referrers:
        rows.append(("referrers", listed(_referrer(one) for one in item.referrers)))
    if item.images:
        rows.append(("images", listed(map(code, item.images))))
    if item.unread:
        rows.append(("not searched for images", listed(_unread(*one) for one in item.unread.items())))
    return f"<h3>{text(item.name)} {text(item.version or '')}</h3>" + facts(rows)


def _unread(path: str, reason: str) -> str:
    return f"{code(path)} ({text(reason)})"


def _signers(item: BundleItem) -> str:
    if not item.signatures:
        return '<span class="bad">no signature in this bundle</span>'
    return listed(
        f"signature {code(one.digest)}, certificates {code(one.signer)}" if one.signer else f"signature {code(one.digest)}"
        for one in item.signatures
    )


def _referrer(one: BundleReferrer) -> str:
    return f"{'↳ ' * one.depth}{text(one.title)} {code(one.digest)} {one.size} bytes, {code(one.artifact_type)}"
