"""Select the layers of a manifest to download, and name their files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from ..chart.expected import ExpectedChart, Unpacking
from ..constraint import read_version
from ..errors import InputError, NotFoundError, PolicyError
from ..oci import EMPTY_TYPE, TITLE, VERSION, Descriptor, Manifest
from .filename import safe_title
from .kinds import CHART, HELM_CHART, HELM_CHART_LEGACY, HELM_CONFIG, HELM_PROVENANCE, IMAGE, Kind, kind_of, matches

_EXTENSIONS: Final = (
    # Media type (glob) and extension. The first matching row is used.
    (HELM_CHART, ".tgz"),
    (HELM_PROVENANCE, ".tgz.prov"),
    ("application/vnd.ms.bicep.module.source.v1.tar+gzip", ".source.tgz"),
    ("application/vnd.ms.bicep.provider.layer.v1.tar+gzip", ".tgz"),
    ("application/vnd.ms.bicep.provider.layer.v1.*.binary", ".bin"),
    ("application/cose", ".cose"),
    ("application/jose+json", ".jws"),
    ("application/spdx+json", ".spdx.json"),
    ("text/spdx", ".spdx"),
    ("application/vnd.cyclonedx+json", ".cdx.json"),
    ("application/vnd.cyclonedx+xml", ".cdx.xml"),
    ("*tar[+.]gzip", ".tar.gz"),
    ("*tar[+.]zstd", ".tar.zst"),
    ("*[+./]gzip", ".gz"),
    ("*.tar", ".tar"),
    ("application/x-tar", ".tar"),
    ("*+zip", ".zip"),
    ("application/zip", ".zip"),
    ("*[+/]json", ".json"),
    ("*[+/]yaml", ".yaml"),
    ("application/x-yaml", ".yaml"),
    ("*[+/]xml", ".xml"),
    ("*[+/]wasm", ".wasm"),
    ("text/markdown", ".md"),
    ("text/*", ".txt"),
)


_CHART_TYPES: Final[tuple[tuple[str, ...], ...]] = ((HELM_CHART,), (HELM_CHART_LEGACY,), ("*tar[+.]gzip",))
"""Media types of a chart's layer, most specific first. The last one covers publishers that used a wrong type."""


class Payload(NamedTuple):
    """One layer and its output file or directory.

    Attributes:
        name: a relative path with `/`, safe on every operating system.
        unpacking: how to unpack the layer to a directory; None: save it as a file.
    """

    layer: Descriptor
    name: str
    unpacking: Unpacking | None = None


class Selection(NamedTuple):
    """The selected layers of a manifest.

    Attributes:
        warnings: warnings for stderr.
    """

    kind: Kind
    payloads: tuple[Payload, ...]
    warnings: tuple[str, ...] = ()


class Choice(NamedTuple):
    """The user's selection of layers.

    Attributes:
        media_types: globs for the media types of layers; if given, `provenance` and `all_layers` have no effect.
        artifact_types: globs for the artifact type; at least one must match.
        kinds: accepted kinds; empty: any.
        provenance: include the provenance file of a chart.
        all_layers: select every layer, even of a container image.
        titles: name files after the titles of their layers, even for kinds that have their own file names.
        output: the file name that the user chose for a single payload. If there are several payloads of one media type, and exactly one of
            them has an unsafe title, that payload is selected.
        is_exact: treat several payloads as an error, even if exactly one of them has an unsafe title.
    """

    media_types: tuple[str, ...] = ()
    artifact_types: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    provenance: bool = False
    all_layers: bool = False
    titles: bool = False
    output: str | None = None
    is_exact: bool = False

    @property
    def is_any(self) -> bool:
        """Whether there are no filters, so that every artifact except a container image is accepted."""
        return not (self.kinds or self.artifact_types or self.media_types)


def select(manifest: Manifest, choice: Choice, *, name: str, tag: str | None, what: str) -> Selection:
    """Select the payloads of a manifest and name their files.

    Args:
        name: the base of file names, see `base_name`.
        tag: the requested tag, which is the version in file names; None if no tag was requested.
        what: the reference, for messages.

    Raises:
        PolicyError: `kind-refused`, `image-refused`, `name-refused`.
        NotFoundError: `layer-not-found`.
        InputError: `payload-ambiguous`: several payloads, but `choice.output` names one file.
    """
    kind = kind_of(manifest)
    _check_choice(manifest, kind, choice, what)
    wanted = _wanted(manifest, kind, choice, what)
    if kind is IMAGE and not choice.all_layers and not choice.media_types:
        raise PolicyError(
            f"`{what}` is a container image",
            code="image-refused",
            hint=f"use `docker pull {what}` or `skopeo copy docker://{what} …`; to download the layers as files, add `--all-layers`",
            reference=what,
            kind=kind.name,
            rule="no container images",
        )
    layers = [layer for layer in manifest.layers if wanted(layer)]
    if not manifest.layers:
        raise NotFoundError(
            f"`{what}` has no layers, so there is nothing to download",
            code="layer-not-found",
            hint=f"to see what it has, run: marfetch inspect {what}",
            reference=what,
        )
    if not layers:
        has = ", ".join(dict.fromkeys(f"`{layer.media_type}`" for layer in manifest.layers))
        raise NotFoundError(
            f"no layer of `{what}` has the requested media type; it has {has}",
            code="layer-not-found",
            reference=what,
        )
    named = layers
    if choice.output is not None and not choice.is_exact and len({layer.media_type for layer in layers}) == 1:
        # `--media-type` cannot select one of several payloads of the same type. So `--output` selects the one with an unsafe title.
        named = [layer for layer in layers if _is_refused(layer, kind)] or layers
    if choice.output is not None and len(named) == 1:
        payloads = [Payload(named[0], choice.output)]
    else:
        try:
            payloads = _named(layers, kind, manifest, name, tag, with_titles=choice.titles)
        except PolicyError as error:
            if choice.output is None:
                error.hint = f"to save it under a name of your own, run: {_pull_of(error, layers, what)}"
                raise
            payloads = [Payload(layer, layer.title or str(layer.digest)) for layer in layers]
        if choice.output is not None:
            raise _ambiguous(payloads, kind, what)
    return Selection(kind, tuple(payloads), tuple(_warnings(manifest, kind, what)))


def _is_refused(layer: Descriptor, kind: Kind) -> bool:
    try:
        _title(layer, kind, with_titles=False)
    except PolicyError:
        return True
    return False


def _ambiguous(payloads: Sequence[Payload], kind: Kind, what: str) -> InputError:
    names = [one.name for one in payloads]
    types = list(dict.fromkeys(one.layer.media_type for one in payloads))
    refused = [one.layer for one in payloads if _is_refused(one.layer, kind)]
    only = f"all of them have the media type `{types[0]}`; download them into a directory with `pull`"
    if len(types) == 1 and refused:
        repository = what.partition("@")[0].rpartition(":")[0] if ":" in what.rpartition("/")[2] else what.partition("@")[0]
        only = f"save each by its digest with another tool, as in: oras blob fetch --output FILE {repository}@{refused[0].digest}"
    return InputError(
        f"`{what}` has {len(names)} payloads: {', '.join(f'`{name}`' for name in names)}",
        code="payload-ambiguous",
        hint=f"choose one with `--media-type`: {', '.join(f'`{media_type}`' for media_type in types)}" if len(types) > 1 else only,
        reference=what,
        names=names,
    )


def _pull_of(error: PolicyError, layers: Sequence[Descriptor], what: str) -> str:
    """Return a command that saves the layer with the refused title under another name."""
    refused = next((layer for layer in layers if (layer.title or "")[:300] == error.context.get("title")), layers[0])
    import shlex  # late: needed only for a hint

    by_type = f" --media-type {shlex.quote(refused.media_type)}" if len(layers) > 1 else ""
    return f"marfetch pull {what}{by_type} --output FILE"


def _check_choice(manifest: Manifest, kind: Kind, choice: Choice, what: str) -> None:
    if choice.kinds and kind not in choice.kinds:
        raise PolicyError(
            f"`{what}` is of the kind `{kind.name}`, not {' or '.join(f'`{k.name}`' for k in choice.kinds)}",
            code="kind-refused",
            hint="to download it, remove `--kind`",
            reference=what,
            kind=kind.name,
            rule="--kind",
        )
    if choice.artifact_types and not matches(manifest.effective_type, choice.artifact_types):
        raise PolicyError(
            f"`{what}` has the artifact type `{manifest.effective_type}`, which `--artifact-type` does not match",
            code="kind-refused",
            hint="to download it, remove `--artifact-type`",
            reference=what,
            kind=kind.name,
            rule="--artifact-type",
        )


def _wanted(manifest: Manifest, kind: Kind, choice: Choice, what: str) -> Callable[[Descriptor], bool]:
    if choice.media_types:
        return lambda layer: matches(layer.media_type, choice.media_types)
    if choice.all_layers:
        return lambda _: True
    if kind is CHART:
        types = chart_types(manifest)
        if choice.provenance:
            if not any(matches(layer.media_type, kind.more) for layer in manifest.layers):
                raise NotFoundError(
                    f"`{what}` has no provenance",
                    code="layer-not-found",
                    hint="to download only the chart, remove `--prov`",
                    reference=what,
                )
            types += kind.more
        return lambda layer: matches(layer.media_type, types)
    if choice.provenance:
        raise NotFoundError(
            f"`{what}` is a {kind.title} and has no provenance", code="layer-not-found", hint="remove `--prov`", reference=what
        )
    if kind.payload != ("*",):
        return lambda layer: matches(layer.media_type, kind.payload)
    if kind.titled and any(layer.title for layer in manifest.layers):
        return lambda layer: layer.title is not None
    if all(layer.media_type.lower() == EMPTY_TYPE for layer in manifest.layers):
        return lambda _: True
    return lambda layer: layer.media_type.lower() != EMPTY_TYPE


def chart_types(manifest: Manifest) -> tuple[str, ...]:
    """Return the globs for the chart's layer in this manifest: the most specific ones that match any layer."""
    has = [layer.media_type for layer in manifest.layers]
    return next((types for types in _CHART_TYPES if any(matches(media_type, types) for media_type in has)), _CHART_TYPES[0])


def _warnings(manifest: Manifest, kind: Kind, what: str) -> Iterable[str]:
    if kind is not CHART:
        return
    if manifest.config.media_type.lower() != HELM_CONFIG:
        yield f"`{what}` has the config type `{manifest.config.media_type}`, which Helm does not accept, but it has a chart layer"
    if not any(matches(layer.media_type, (HELM_CHART,)) for layer in manifest.layers):
        has = ", ".join(dict.fromkeys(layer.media_type for layer in manifest.layers))
        yield f"`{what}` has a chart layer of the type `{has}` instead of `{HELM_CHART}`"


def _named(layers: Sequence[Descriptor], kind: Kind, manifest: Manifest, name: str, tag: str | None, *, with_titles: bool) -> list[Payload]:
    stem = name + _version_part(manifest, kind, tag)
    payloads: list[Payload] = []
    main = chart_types(manifest) if kind is CHART else kind.payload
    extensions = [
        kind.extension
        if kind.extension and matches(layer.media_type, main) and not matches(layer.media_type, kind.more)
        else extension_of(layer.media_type)
        for layer in layers
    ]
    titles = [_title(layer, kind, with_titles=with_titles) for layer in layers]
    for number, (layer, title, extension) in enumerate(zip(layers, titles, extensions, strict=True), start=1):
        if title == ".":
            payloads.append(Payload(layer, f"{stem}.tar.gz" if titles.count(title) == 1 else f"{stem}-{number}.tar.gz"))
        elif title is not None:
            payloads.append(Payload(layer, title))
        elif extensions.count(extension) > 1:
            payloads.append(Payload(layer, f"{stem}-{number}{extension}"))
        else:
            payloads.append(Payload(layer, stem + extension))
    return payloads


def _title(layer: Descriptor, kind: Kind, *, with_titles: bool) -> str | None:
    """Return the title to use as the file name, or None. `oras push DIR` gives a packed directory the title `.`."""
    if not layer.title or not (kind.titled or with_titles):
        return None
    if layer.title == ".":
        return layer.title
    if kind.titled:
        return safe_title(layer.title)
    with suppress(PolicyError):  # an unsafe title: use the kind's own file name
        return safe_title(layer.title)
    return None


def _version_part(manifest: Manifest, kind: Kind, tag: str | None) -> str:
    """Return the part of the file name that follows the name: the version, or the digest if there is no version (as in Helm)."""
    if tag:
        return kind.separator + (tag.replace("_", "+") if read_version(tag) else tag)
    version = manifest.annotations.get(VERSION, "")
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}", version):
        return kind.separator + version
    digest = manifest.descriptor.digest
    return f"@{digest.algorithm}-{digest.encoded}"


def base_name(repository: str) -> str:
    """Return the base of file names: the last component of the repository, or the last two if the last is a version (`…/v1.0`)."""
    parts = repository.split("/")
    if len(parts) > 1 and re.fullmatch(r"v?[0-9]+(\.[0-9]+)*", parts[-1]):
        return "-".join(parts[-2:])
    return parts[-1]


def extension_of(media_type: str) -> str:
    """Return the file extension of a media type, with its dot."""
    lower = media_type.lower()
    return next((extension for glob, extension in _EXTENSIONS if fnmatchcase(lower, glob)), ".bin")


# -- unpacking: which payloads are archives, and the names of their directories


_ENDINGS: Final = (".tar.gz", ".tgz", ".tar")
_CHART_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")
_MARK: Final = "io.deis.oras.content.unpack"
"""Annotation that oras sets on a layer with a packed directory. The layer's title is the name of the directory."""


def unpacked(selection: Selection, manifest: Manifest, *, repository: str, tag: str | None) -> tuple[Payload, ...]:
    """Return the payloads. Each archive gets instructions for unpacking, and the name of the directory to unpack to.

    An archive is identified by its file extension (from the title or media type) or by oras's annotation, so that its directory is known
    before the download. If a layer has a title, its media type is ignored: PowerShell modules on MAR are zip archives with the media type
    of a gzipped tar.

    The directory is named after the last component of the repository, since a publisher must not choose which directory is replaced. If
    several payloads are archives, each gets its own subdirectory. Helm writes the chart's name as the title of the manifest. A chart must
    have that name; without a title, it may have any name, as in Helm.

    Raises:
        PolicyError: `name-refused`.
    """
    directory = safe_title(chart_name(repository))
    payloads = [_unpacked(payload, selection, manifest, repository, tag) for payload in selection.payloads]
    is_only = sum(payload.unpacking is not None for payload in payloads) == 1

    def placed(payload: Payload) -> Payload:
        if payload.unpacking is None:
            return payload
        name = directory if is_only else f"{directory}/{directory if payload.unpacking.chart else payload.name}"
        return payload._replace(name=name)

    return tuple(map(placed, payloads))


def _unpacked(payload: Payload, selection: Selection, manifest: Manifest, repository: str, tag: str | None) -> Payload:
    """Add the unpacking and the archive's own name to an archive; return any other payload unchanged."""
    if selection.kind is CHART and matches(payload.layer.media_type, chart_types(manifest)):
        version = tag if tag is not None and read_version(tag) else None
        title = manifest.annotations.get(TITLE, "")
        name = safe_title(chart_name(repository, title))
        return payload._replace(name=name, unpacking=Unpacking(payload.name, ExpectedChart(name, version, is_named=name == title)))
    if payload.layer.annotations.get(_MARK) == "true" and payload.layer.title == ".":
        # An archive with the title `.` has no top-level directory.
        return payload._replace(name=safe_title(_stem(payload.name)), unpacking=Unpacking(payload.name))
    if payload.layer.annotations.get(_MARK) == "true" and payload.name == payload.layer.title:
        # oras prefixes each path with the title, and strips it when it unpacks.
        return payload._replace(unpacking=Unpacking(payload.name, top=payload.name))
    if (stem := _stem(payload.name)) != payload.name:
        return payload._replace(name=safe_title(stem), unpacking=Unpacking(payload.name, is_stripped=True))
    return payload


def chart_name(repository: str, title: str | None = None) -> str:
    """Return the name of the chart: its title if that is a valid name, or else the last part of the repository that is not a version."""
    if title is not None and _CHART_NAME.fullmatch(title):
        return title
    parts = repository.split("/")
    return next((part for part in reversed(parts) if not re.fullmatch(r"v?[0-9]+(\.[0-9]+)*", part)), parts[-1])


def _stem(name: str) -> str:
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]
