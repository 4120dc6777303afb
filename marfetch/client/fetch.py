"""Fetch one chart, its provenance or its config as bytes, without writing files to a destination."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

from ..artifact.kinds import CHART, HELM_PROVENANCE, matches
from ..artifact.payload import Choice, base_name, select
from ..document import Json, parse_json
from ..errors import Error, NotFoundError
from ..oci import Descriptor
from ..reference import Reference
from ..text import counted
from .resolve import Resolved, Wanted, artifact, resolve
from .session import Repository, Session

Gate: TypeAlias = Callable[[Session, Resolved], object]
"""Checks a resolved artifact before its download, such as its signature. Raises an error to refuse the artifact."""

MAX_SIZE = 256 << 20
"""Maximum size of a package in bytes. The whole package is held in memory until it is checked."""


def payload(
    client: Session, wanted: Wanted, *, provenance: bool = False, hints: bool = True, gate: Gate | None = None
) -> tuple[bytes, Reference]:
    """Fetch a chart package or its provenance into memory, and verify it completely before returning it.

    Args:
        provenance: fetch the provenance instead of the package.
        hints: see `resolve`.
        gate: called before the payload is downloaded; raises an error to refuse the artifact.

    Returns:
        The bytes, and the reference of the artifact, pinned to its digest.

    Raises:
        PolicyError: `kind-refused`: the artifact is not a chart; `limit-passed`.
        NotFoundError: `layer-not-found`: there is no provenance.
        Error: see `resolve`.
    """
    client.fetches = True
    resolved = resolve(client, wanted._replace(choice=Choice(kinds=(CHART,))), hints=hints)
    if gate is not None:
        gate(client, resolved)
    reference = resolved.reference
    what = reference.shown
    choice = Choice(kinds=(CHART,), provenance=provenance)
    manifest = artifact(resolved, choice, None)
    chosen = select(manifest, choice, name=base_name(reference.repository), tag=reference.tag, what=what)
    layers = [one.layer for one in chosen.payloads if matches(one.layer.media_type, (HELM_PROVENANCE,)) is provenance]
    if len(layers) != 1:
        raise NotFoundError(
            f"`{what}` has {counted(len(layers), 'layer')} where one chart is expected",
            code="layer-not-found",
            reference=what,
            hint=f"marfetch inspect {what}",
        )
    return resolved.repository.blob(layers[0], limit=MAX_SIZE, hint=f"marfetch pull {what}"), reference


# -- the config of a chart: its metadata (Chart.yaml as JSON)


MAX_CONFIG_SIZE: Final = 1 << 20
"""Maximum size of a config in bytes."""


def chart_metadata(repository: Repository, config: Descriptor) -> dict[str, Json]:
    """Return a chart's metadata from its config. Download the config into the cache if it is missing.

    Raises:
        PolicyError: `limit-passed`.
        IntegrityError: `malformed`, or the config does not match its descriptor.
        Error: the config cannot be downloaded.
    """
    what = f"the config of `{repository.reference}`"
    document = parse_json(repository.blob(config, limit=MAX_CONFIG_SIZE, what=what), what)
    return document if isinstance(document, dict) else {}


def kept_metadata(client: Session, config: Descriptor) -> dict[str, Json]:
    """Return a chart's metadata from the cache, without a request; empty if the config is not cached or is corrupted."""
    with suppress(Error):
        if config.size <= MAX_CONFIG_SIZE and client.cache.has(config):
            document = parse_json(client.cache.read(config), "the config")
            return document if isinstance(document, dict) else {}
    return {}
