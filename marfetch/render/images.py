"""Print the container images of charts: as lines, as JSON, and in the formats of tools that copy images."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..bundle.overlay import Overlay
from ..chart.relocation import Left, yaml_of
from ..client.chartimages import ChartImages
from .report import Report
from .table import reference


def print_images(report: Report, found: Sequence[ChartImages], form: str = "text") -> int:
    """Print the images; return the exit code of the first chart that could not be searched."""
    images = list(dict.fromkeys(named.image for one in found for named in one.named))
    if form == "text":
        report.table(
            ("IMAGE", "CHART", "WHERE"), [(reference(named.image), one.chart, named.where) for one in found for named in one.named]
        )
    else:
        parsed = {image: _Image.parse(image) for image in images}
        report.text("\n".join(FORMATS[form](one for one in parsed.values() if one.is_valid)))
        for image in (image for image, one in parsed.items() if not one.is_valid):
            report.warn(f"`{image}` is left out, since no registry can have it: a tag is letters, digits, `_`, `.` and `-`")
    for one in found:
        for path, reason in one.guessed.items():
            report.warn(f"`{path}` of `{one.chart}` was searched line by line, because marfetch cannot evaluate it: {reason}")
    if not images and not any(one.unread for one in found):
        report.note("no chart names an image")
    unread = [(one.chart, path, error) for one in found for path, error in one.unread.items()]
    data: Any = {
        "images": [
            {"image": named.image, "chart": one.chart, "where": named.where, "source": named.source} for one in found for named in one.named
        ],
        "unread": [{"chart": chart, "path": path or None, "code": error.code, "reason": error.message} for chart, path, error in unread],
        "guessed": [{"chart": one.chart, "path": path, "reason": reason} for one in found for path, reason in one.guessed.items()],
    }
    if unread:
        return report.failures([(chart, error) for chart, _, error in unread], data)
    report.data(data)
    return 0


def print_overlays(report: Report, found: Sequence[Overlay], registry: str, *, is_strict: bool) -> int:
    """Print a values file per chart. Return 1 if `is_strict` is set and an image cannot be pointed at the registry."""
    for number, one in enumerate(found):
        values, left = one.relocation
        lines = [f"# values of {one.chart} for {registry}", *(f"# not set: {_sentence(image)}" for image in left)]
        report.text("\n".join([*(["---"] if number else []), *lines, yaml_of(values)]))
    charts: Any = [
        {"chart": one.chart, "name": one.name, "values": one.relocation.values, "left": [image._asdict() for image in one.relocation.left]}
        for one in found
    ]
    report.data({"registry": registry, "charts": charts})
    if not found:
        report.note("the bundle has no chart")
    return 1 if is_strict and any(one.relocation.left for one in found) else 0


def _sentence(left: Left) -> str:
    return f"{left.image or 'the images in it'} ({left.where}): {left.reason}"


class _Image(NamedTuple):
    """An image reference with a host and a tag or digest, as tools read it (distribution/reference, `ParseNormalizedNamed`)."""

    host: str
    path: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> _Image:
        name, _, digest = text.partition("@")
        host, slash, path = name.partition("/")
        if not slash or not ("." in host or ":" in host or host == "localhost"):
            host, path = "docker.io", name if slash else f"library/{name}"
        above, _, last = path.rpartition("/")
        last, _, tag = last.partition(":")
        return cls(host, f"{above}/{last}" if above else last, tag or ("" if digest else "latest"), digest)

    @property
    def is_valid(self) -> bool:
        """Whether the tag can exist: of a large number without quotes, Helm makes `2.02e+07`."""
        return not self.tag or re.fullmatch(r"\w[\w.-]{0,127}", self.tag, re.ASCII) is not None

    @property
    def target(self) -> str:
        """The repository and tag in another registry. Without a tag, a tag is made from the digest."""
        return f"{self.path}:{self.tag or self.digest.replace(':', '-')}"

    def __str__(self) -> str:
        return f"{self.host}/{self.path}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"


def _quoted(text: object) -> str:
    return json.dumps(str(text))


def _hauler(images: Iterable[_Image]) -> Iterator[str]:
    """Yield a hauler manifest (hauler, "Content Manifests": `Images`)."""
    yield from ("apiVersion: content.hauler.cattle.io/v1", "kind: Images", "metadata:", "  name: marfetch", "spec:")
    yield from _list("  images:", (f"    - name: {_quoted(image)}" for image in images))


def _zarf(images: Iterable[_Image]) -> Iterator[str]:
    """Yield a component of a `zarf.yaml`."""
    yield from ("components:", "  - name: images", "    required: true")
    yield from _list("    images:", (f"      - {_quoted(image)}" for image in images))


def _regsync(images: Iterable[_Image]) -> Iterator[str]:
    """Yield a configuration of regsync; `REGISTRY` in the environment names the target."""
    yield "version: 1"
    entries = []
    for image in images:
        target = '{{ env "REGISTRY" }}/' + image.target
        entries.append(f"  - source: {_quoted(image)}\n    target: '{target}'\n    type: image")
    yield from _list("sync:", entries)


def _skopeo(images: Iterable[_Image]) -> Iterator[str]:
    """Yield a YAML file for `skopeo sync --src yaml`. An image with a tag and a digest is named by its digest."""
    hosts: dict[str, dict[str, list[str]]] = {}
    for image in images:
        hosts.setdefault(image.host, {}).setdefault(image.path, []).append(image.digest or image.tag)
    if not hosts:
        yield "{}"
    for host, paths in hosts.items():
        yield from (f"{_quoted(host)}:", "  images:")
        for path, tags in paths.items():
            yield from (f"    {_quoted(path)}:", *(f"      - {_quoted(tag)}" for tag in dict.fromkeys(tags)))


def _acr(images: Iterable[_Image]) -> Iterator[str]:
    """Yield commands of the Azure CLI; `ACR_NAME` in the environment names the registry."""
    for image in images:
        source = f"{image.host}/{image.path}{f'@{image.digest}' if image.digest else f':{image.tag}'}"
        yield f'az acr import --name "$ACR_NAME" --source {shlex.quote(source)} --image {shlex.quote(image.target)}'


def _list(key: str, entries: Iterable[str]) -> Iterator[str]:
    found = list(entries)
    yield key if found else f"{key} []"
    yield from found


FORMATS: Final[Mapping[str, Callable[[Iterable[_Image]], Iterator[str]]]] = {
    "hauler": _hauler,
    "zarf": _zarf,
    "regsync": _regsync,
    "skopeo": _skopeo,
    "acr": _acr,
}
"""Format → function that yields its lines."""
