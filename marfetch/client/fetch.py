"""One payload of one artifact as bytes, for those who hand it on in place of writing it to disk."""

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
from .resolve import Resolved, Wanted, artifact, resolve
from .session import Repository, Session

Gate: TypeAlias = Callable[[Session, Resolved], object]
"""Says whether what was resolved may be fetched, as a verification does."""

MAX_SIZE = 256 << 20
"""Bytes: a package is held in memory until all of it is checked."""


def payload(
    client: Session, wanted: Wanted, *, provenance: bool = False, hints: bool = True, gate: Gate | None = None
) -> tuple[bytes, Reference]:
    """The package of a chart, or its provenance; checked after it was read, so that nothing wrong is ever handed on.

    Args:
        provenance: the provenance in place of the package.
        hints: as `resolve`.
        gate: is asked before anything is fetched, and raises to keep it out.

    Returns:
        The bytes, and the pinned reference that they came from.

    Raises:
        PolicyError: `kind-refused`: it is no chart; `limit-passed`.
        NotFoundError: `layer-not-found`: there is no provenance.
        Error: as `resolve`.
    """
    client.fetches = True
    resolved = resolve(client, wanted, hints=hints)
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
            f"`{what}` has {len(layers)} layers where one chart is expected",
            code="layer-not-found",
            reference=what,
            hint=f"marfetch inspect {what}",
        )
    return resolved.repository.blob(layers[0], limit=MAX_SIZE, hint=f"marfetch pull {what}"), reference


# -- the config of an artifact: small, and for a chart its metadata (Chart.yaml as JSON)


MAX_CONFIG_SIZE: Final = 1 << 20
"""Bytes of a config that are read."""


def chart_metadata(repository: Repository, config: Descriptor) -> dict[str, Json]:
    """What a chart's config holds, fetched into the cache.

    Raises:
        PolicyError: `limit-passed`.
        IntegrityError: `malformed`, or it is not what its descriptor says.
        Error: it cannot be fetched.
    """
    what = f"the config of `{repository.reference}`"
    document = parse_json(repository.blob(config, limit=MAX_CONFIG_SIZE, what=what), what)
    return document if isinstance(document, dict) else {}


def kept_metadata(client: Session, config: Descriptor) -> dict[str, Json]:
    """What a chart's config holds, where the cache has it; nothing where it does not, or where it is damaged. No request is made."""
    with suppress(Error):
        if config.size <= MAX_CONFIG_SIZE and client.cache.has(config):
            document = parse_json(client.cache.read(config), "the config")
            return document if isinstance(document, dict) else {}
    return {}
