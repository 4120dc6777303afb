"""Generate marfetch's HTML pages: style, script, content security policy, and the cards, table and details of artifacts.

A page makes no requests, escapes all untrusted text, and shows all content without JavaScript. Equal arguments give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from ..constraint import sort_versions
from ..oci import Descriptor
from ..text import counted, human_size, printable
from .inventory import BundleItem, BundleReferrer

_LONGEST: Final = 1_000
"""The maximum number of characters of one untrusted text. Longer text is cut."""
_MANY: Final = 200
"""With more artifacts than this, the browser lays out details only when they scroll into view."""


def _source(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


STYLE: Final = _source("page.css")
SCRIPT: Final = _source("page.js")
POLICY: Final = f"default-src 'none'; style-src {_hash(STYLE)}; script-src {_hash(SCRIPT)}; base-uri 'none'; form-action 'none'"
"""The content security policy of every page."""


# -- building blocks: each function returns markup


def text(value: object) -> str:
    """Escape untrusted text for HTML content or an attribute. Control and bidirectional characters become visible escapes."""
    shown = printable(str(value))
    return html.escape(shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…", quote=True)


def code(value: object) -> str:
    """Return escaped text in a `code` element."""
    return f"<code>{text(value)}</code>"


def copied(value: object) -> str:
    """Return escaped text to which the script adds a copy button. The text is never cut, because half a command could do harm."""
    return f'<div class="copy"><code>{html.escape(printable(str(value)))}</code></div>'


def card(title: str, value: object, note: str, tone: str = "", name: str = "") -> str:
    """Return one summary card.

    Args:
        title, note: markup above and below the value.
        value: the text to show large.
        tone: the color: `good`, `warn`, `bad` or `info`. The words must convey the same, for readers who do not see the color.
        name: the `id` of the element, for the script.
    """
    attributes = (f' id="{name}"' if name else "") + (f' class="{tone}"' if tone else "")
    return f'<div{attributes}><dt>{title}</dt><dd class="value">{text(value)}</dd><dd>{note}</dd></div>'


def _facts(pairs: Iterable[tuple[str, str]], kind: str = "facts") -> str:
    """Return a definition list. Each pair is a term, which is escaped, and its description, which is markup."""
    return f'<dl class="{kind}">' + "".join(f"<dt>{text(name)}</dt><dd>{markup}</dd>" for name, markup in pairs) + "</dl>"


def document(title: str, header: Iterable[str], main: Iterable[str]) -> bytes:
    """Return a complete HTML document.

    Args:
        title: the title, which is escaped.
        header, main: the markup of the header and of the main content.
    """
    parts = [
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{text(POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">',
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        '<a class="skip" href="#artifacts">Skip to the artifacts</a>\n<header class="band"><div class="wide start">',
        *header,
        '</div></header>\n<main class="wide">',
        *main,
        '</main>\n<footer class="wide">Made by marfetch. This page loads nothing from any server.</footer>',
        f'<div id="said" class="said" role="status"></div>\n<script>{SCRIPT}</script>\n</body>\n</html>\n',
    ]
    return "\n".join(parts).encode()


# -- the artifacts of a page


@dataclass(frozen=True, slots=True)
class ArtifactSections:
    """The sections of a page that show artifacts.

    Attributes:
        items: the artifacts to show.
        place: the noun for what contains the artifacts, such as `bundle`.
        commands: returns the commands that fetch an artifact, as pairs of a tool and a command line.
        hint: markup above the details.
        today: the date for "past end of life". None if the page must not depend on the date; then the script marks ended artifacts.
        max_rows: the maximum total of artifacts, layers, referrers and images on the page; None for no limit.
        max_listed: the maximum number of layers, referrers or images that are listed for one artifact; None for no limit.
    """

    items: Sequence[BundleItem]
    place: str
    commands: Callable[[BundleItem], Iterable[tuple[str, str]]]
    hint: str = ""
    today: date | None = None
    max_rows: int | None = None
    max_listed: int | None = None

    def cards(self) -> str:
        """Return the summary cards."""
        items, count = self.items, len(self.items)
        kinds = Counter(item.title for item in items)
        signed = sum(1 for item in items if item.signatures)
        images = {image for item in items for image in item.images}
        carried = {image for item in items for image in item.carried} & images
        unread = sum(1 for item in items if item.unread)
        signature_tone = "warn" if signed < count else "info" if count else ""
        shown = [
            card("Artifacts", count, _kinds(kinds)),
            card("Size", human_size(sum(item.size for item in items)), "without signatures and other referrers"),
            card("Signed", f"{signed} of {count}", f"{count - signed} unsigned; signatures are not checked here", signature_tone),
            self._ends(),
            card(
                "Images named",
                len(images),
                f"by charts; {len(carried) if carried else 'they'} are {'' if carried else 'not '}in this {self.place}",
            ),
            card("Unread charts", unread, "may name more images" if unread else "every chart was searched", "bad" if unread else ""),
        ]
        return f'<dl class="cards" aria-label="Summary">{"".join(shown)}</dl>'

    def _ends(self) -> str:
        dates = sorted(item.ends for item in self.items if item.ends is not None)
        if not dates:
            return card("Past end of life", 0, "no artifact has an end-of-life date")
        if self.today is None:
            return card("With end-of-life date", len(dates), f"the first is {dates[0]}", "warn", "ends")
        past = sum(1 for one in dates if one <= self.today)
        return card("Past end of life", past, f"of {len(dates)} with an end-of-life date, on {self.today}", "bad" if past else "")

    def sections(self) -> Iterator[str]:
        """Yield the table of artifacts, their details, and the list of images."""
        shown = self.items[: self._shown()]
        left = len(self.items) - len(shown)
        yield '<section id="artifacts" aria-labelledby="artifacts-title"><div class="head"><h2 id="artifacts-title">Artifacts</h2></div>'
        if not shown:
            yield "<p>There are no named artifacts here.</p>"
        else:
            yield _filters(shown)
            yield from self._table(shown)
        if left:
            yield f'<p class="notice bad">And {counted(left, "more artifact")}, too many to show here.</p>'
        yield "</section>"
        if not shown:
            return
        many = ' class="many"' if len(shown) > _MANY else ""
        yield f'<section{many} aria-labelledby="details-title"><div class="head"><h2 id="details-title">Details</h2><div id="details"></div></div>'
        yield self.hint
        for number, item in enumerate(shown):
            yield self._details(item, number)
        yield "</section>"
        yield from self._images(shown)

    def _shown(self) -> int:
        """Return how many artifacts fit on the page with `max_rows`."""
        if self.max_rows is None:
            return len(self.items)
        left = self.max_rows
        for number, item in enumerate(self.items):
            left -= 1 + sum(len(part[: self.max_listed]) for part in (item.layers, item.referrers, item.images, list(item.unread)))
            if left < 0:
                return number
        return len(self.items)

    def _table(self, items: Sequence[BundleItem]) -> Iterator[str]:
        tags = {item.reference.tag for item in items if item.version and item.reference.tag}
        ranks = {version.tag: number for number, version in enumerate(reversed(sort_versions(tags)), start=1)}
        heads = ("Artifact", "Version", "Kind", "Signature", "End of life")
        yield (
            '<div class="sheet"><table><thead><tr>'
            + "".join(f'<th scope="col">{head}</th>' for head in heads)
            + '<th scope="col" class="number">Images</th><th scope="col" class="number">Size</th></tr></thead><tbody>'
        )
        for number, item in enumerate(items):
            yield (
                f'<tr data-kind="{text(item.title)}" data-signed="{"yes" if item.signatures else "no"}">'
                f'<th scope="row"><a href="#a{number}">{text(item.name)}</a> {_breaking(code(item.reference.full_repository))}</th>'
                f'<td data-is="Version" data-key="{ranks.get(item.reference.tag or "", 0)}">{_version(item)}</td>'
                f'<td data-is="Kind">{text(item.title)}</td><td data-is="Signature">{_signature(item)}</td>'
                f'<td data-is="End of life" data-key="{item.ends.strftime("%Y%m%d") if item.ends else 10**8}">{self._end(item) or "–"}</td>'
                f'<td class="number" data-is="Images" data-key="{len(item.images)}">{_image_count(item)}</td>'
                f'<td class="number" data-is="Size" data-key="{item.size}">{human_size(item.size)}</td></tr>'
            )
        yield "</tbody></table></div>"

    def _end(self, item: BundleItem) -> str:
        if item.ends is None:
            return ""
        is_past = self.today is not None and item.ends <= self.today
        return f'<time class="tag{" bad" if is_past else ""}" datetime="{item.ends}">{"ended " if is_past else ""}{item.ends}</time>'

    def _details(self, item: BundleItem, number: int) -> str:
        missing = f", {human_size(item.omitted)} of it not in this delta" if item.omitted else ""
        rows = [
            ("Reference", copied(item.reference)),
            ("Digest", copied(item.descriptor.digest)),
            ("Kind", f"{text(item.title)}, {code(item.descriptor.media_type)}"),
            *([("Platforms", text(", ".join(item.platforms)))] if item.platforms else []),
            *([("Left out", f"{text(', '.join(item.omitted_platforms))}: not requested")] if item.omitted_platforms else []),
            ("Size", f"{human_size(item.size)} ({item.size} bytes){missing}"),
            ("Created", text(item.created or "unknown")),
            ("End of life", f"{item.ends}, as the publisher's mark says; this page does not check it" if item.ends else "no date"),
            ("Signatures", self._listed(map(_signer, item.signatures), "none in this " + self.place)),
        ]
        if item.verdict is not None:
            verdict = '<span class="tag good">verified</span>' if item.verdict == "verified" else text(item.verdict)
            rows.append(("When locked", verdict))
        rows += [
            (name, self._listed(values, ""))
            for name, values in (
                ("Content", list(map(_layer, item.layers))),
                ("Referrers", list(map(_referrer, item.referrers))),
                ("Images", list(map(code, item.images))),
                ("Unread", [_reason(*one) for one in item.unread.items()]),
            )
            if values
        ]
        commands = [(tool, copied(line)) for tool, line in self.commands(item)]
        fetch = f"<h4>Fetch it</h4>{_facts(commands, 'facts commands')}" if commands else ""
        if item.omitted and not commands:
            fetch = '<p class="soft">This delta does not contain all of it: load the delta, then fetch it from the registry.</p>'
        return (
            f'<details id="a{number}" open><summary><h3>{text(item.name)} <span>{_version(item)}</span></h3>'
            f' {_signature(item)} {self._end(item)}</summary><div class="inside">{_facts(rows)}'
            f"{fetch}</div></details>"
        )

    def _listed(self, values: Iterable[str], nothing: str) -> str:
        """Return a bulleted list of markup. If the list is empty, return the text `nothing`."""
        found = list(values)
        shown = found[: self.max_listed]
        more = [f"and {len(found) - len(shown)} more"] if len(found) > len(shown) else []
        return "<ul>" + "".join(f"<li>{one}</li>" for one in [*shown, *more]) + "</ul>" if found else text(nothing)

    def _images(self, items: Sequence[BundleItem]) -> Iterator[str]:
        named: dict[str, list[str]] = {}
        carried = {image for item in items for image in item.carried}
        for item in items:
            for image in item.images[: self.max_listed]:
                named.setdefault(image, []).append(f"{item.name} {item.version or item.reference.tag or ''}".strip())
        unread = [f"{text(item.name)} {_version(item)}: {_reason(*one)}" for item in items for one in item.unread.items()]
        yield '<section aria-labelledby="images-title"><div class="head"><h2 id="images-title">Container images in the charts</h2></div>'
        yield (
            "<p>Found in plain text in values, templates and CRDs, also of packed sub-charts, so the list may be incomplete. The charts need"
            f" these images, but this {self.place} " + ("contains only the marked ones.</p>" if carried else "does not contain them.</p>")
        )
        if unread:
            yield f'<div class="notice bad">These could not be searched and may name more images: {self._listed(unread, "")}</div>'
        if named:
            mark = f' <span class="tag good">in this {self.place}</span>'
            lines = (
                f'<li>{code(image)} <span class="soft">{text(", ".join(named[image]))}</span>{mark if image in carried else ""}</li>'
                for image in sorted(named)
            )
            yield f'<ul id="images" class="images">{"".join(lines)}</ul>'
        elif not unread:
            yield "<p>None found.</p>"
        yield "</section>"


def _filters(items: Sequence[BundleItem]) -> str:
    """Return the filters. They are hidden until the script runs."""

    def choice(name: str, label: str, options: Iterable[tuple[str, str]]) -> str:
        shown = "".join(f'<option value="{text(value)}">{text(word)}</option>' for value, word in (("", "All"), *options))
        return f'<label>{label}<select id="{name}">{shown}</select></label>'

    return (
        '<div id="filters" class="filters" role="search" aria-label="Filter the artifacts" hidden>'
        '<label>Search<input type="search" id="search" placeholder="name, digest, image …" autocomplete="off"></label>'
        + choice("kind", "Kind", [(title, title) for title in sorted({item.title for item in items})])
        + choice("signed", "Signature", [("yes", "signed"), ("no", "unsigned")])
        + choice("state", "End of life", [("ended", "ended"), ("later", "later"), ("none", "no date")])
        + '<span id="count" role="status"></span></div>'
    )


def _kinds(kinds: Counter[str]) -> str:
    """Return the most frequent kinds with their counts, such as `2 × Helm chart`."""
    ordered = sorted(kinds.items(), key=lambda one: (-one[1], one[0]))
    shown = [f"{number}\u00a0× {text(title)}" for title, number in ordered[:3]]
    return ", ".join([*shown, counted(len(ordered) - 3, "other kind")] if len(ordered) > 3 else shown) or "none"


def _breaking(markup: str) -> str:
    """Allow line breaks after the slashes of a `code` element."""
    return markup.removesuffix("</code>").replace("/", "/<wbr>") + "</code>"


def _version(item: BundleItem) -> str:
    return text(item.version or item.reference.tag or "–")


def _signature(item: BundleItem) -> str:
    return '<span class="tag info">signed</span>' if item.signatures else '<span class="tag warn">unsigned</span>'


def _image_count(item: BundleItem) -> str:
    return f'<span>{len(item.images)} <span class="tag bad">unread</span></span>' if item.unread else str(len(item.images))


def _reason(path: str, reason: str) -> str:
    return f"{code(path)} ({text(reason)})"


def _layer(one: Descriptor) -> str:
    return f"{code(one.digest)} {human_size(one.size)}, {code(one.media_type)}"


def _signer(one: BundleReferrer) -> str:
    return code(one.digest) + (f", certificates {code(one.signer)}" if one.signer else "")


def _referrer(one: BundleReferrer) -> str:
    return f"{'↳ ' * one.depth}{text(one.title)} {code(one.digest)} {human_size(one.size)}, {code(one.artifact_type)}"
