"""Return one part of an artifact without unpacking it: files of a chart, or the parameters and outputs of a Bicep module."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from ..artifact.kinds import BICEP_MODULE, CHART, Kind, kind_of
from ..artifact.module import ModuleInterface, module_interface, parse_template
from ..artifact.payload import Choice, Payload
from ..chart.parts import DEFINITIONS, PARTS, files_of, joined, parts_in
from ..destination.package import ChartFiles, chart_files
from ..errors import Error, IntegrityError, NotFoundError, PolicyError
from ..oci import Platform
from ..reference import Reference
from .fetch import Gate
from .pull import PullOptions, found
from .resolve import Resolved, Wanted, artifact, resolve
from .session import Session

MAX_PART: Final = 20 << 20
"""Maximum size of a part in bytes."""
_OF_PACKAGE: Final = ("malformed", "member-refused", "chart-refused", "limit-passed")
"""Codes of errors that the publisher caused. The hint then suggests to download the package as a file."""
INTERFACE: Final = "params"
"""The only part of a Bicep module."""
_TEMPLATE: Final = "main.json"
"""The name that Bicep gives to the compiled template of a module."""
PART_NAMES: Final = (*PARTS, INTERFACE)
"""All parts, of every kind of artifact."""


class ShownPart(NamedTuple):
    """One part of an artifact.

    Attributes:
        reference: the artifact's reference, pinned to the digest.
        part: the name of the part, one of `PART_NAMES`.
        path: the path of the file in the chart; for CRDs from several files, the directory `crds`.
        content: the bytes of the file; CRDs from several files are joined with `---`.
        interface: for `params`, the parameters and outputs.
    """

    reference: Reference
    part: str
    path: str
    content: bytes
    interface: ModuleInterface | None = None


def show(
    client: Session,
    wanted: Wanted,
    part: str,
    *,
    platform: Platform | None = None,
    skip_missing: bool = False,
    gate: Gate | None = None,
) -> ShownPart:
    """Return a part of an artifact, through the cache.

    Args:
        part: one of `PART_NAMES`.
        platform: platform to pick from a multi-platform index.
        gate: called before the payload is downloaded; raises an error to refuse the artifact.

    Raises:
        NotFoundError: `part-not-found`.
        PolicyError: `limit-passed`; `member-refused`: the file is a link.
        IntegrityError: `malformed`.
        Error: the artifact cannot be resolved or fetched.
    """
    client.fetches = True
    resolved = resolve(client, wanted, skip_missing=skip_missing)
    if gate is not None:
        gate(client, resolved)
    kind = kind_of(artifact(resolved, Choice(), platform))
    if kind not in (CHART, BICEP_MODULE):
        raise _no_part(resolved, kind, part, [])
    payload = found(client, resolved, PullOptions(Path(), Choice(output=part), platform)).payloads[0]
    take = _of_chart if kind is CHART else _of_module
    try:
        return take(resolved, payload, part)
    except (IntegrityError, PolicyError) as error:
        if error.code in _OF_PACKAGE:
            error.hint = f"to download the package as a file, run: marfetch pull {resolved.reference.shown}"
        raise


def _of_chart(resolved: Resolved, payload: Payload, part: str) -> ShownPart:
    reference, layer, session = resolved.reference, payload.layer, resolved.repository.session

    def read() -> ChartFiles:
        with session.cache.open(layer.digest) as blob:
            wanted = PARTS.get(part, lambda _: False)
            return chart_files(blob, layer, reference.shown, is_wanted=wanted, limit=MAX_PART, check=session.budget.check)

    files = resolved.repository.use(layer, read)
    own = files_of(part, files.paths) if part in PARTS else []
    for path in own if part != DEFINITIONS else files.unread:  # an unread sub-chart may have CRDs too
        if path in files.unread:
            raise files.unread[path]
    if not own:
        raise _no_part(resolved, CHART, part, parts_in(files.paths))
    content = joined(files.texts[path] for path in own)
    return ShownPart(reference, part, own[0] if len(own) == 1 else DEFINITIONS, content)


def _of_module(resolved: Resolved, payload: Payload, part: str) -> ShownPart:
    if part != INTERFACE:
        raise _no_part(resolved, BICEP_MODULE, part, [INTERFACE])
    what = f"the template of `{resolved.reference.shown}`"
    raw = resolved.repository.blob(payload.layer, limit=MAX_PART, what=what)
    return ShownPart(resolved.reference, part, _TEMPLATE, raw, module_interface(parse_template(raw, what), what))


def _no_part(resolved: Resolved, kind: Kind, part: str, has: list[str]) -> Error:
    what = resolved.reference.shown
    parts = f"it has {', '.join(f'`{one}`' for one in has)}" if has else "`show` prints parts of Helm charts and Bicep modules only"
    return NotFoundError(
        f"`{what}` has no `{part}`: it is of the kind `{kind.name}`, and {parts}",
        code="part-not-found",
        hint=f"marfetch show {has[0]} {what}" if has else f"to see what it is, run: marfetch inspect {what}",
        reference=what,
        part=part,
        parts=list(has),
    )
