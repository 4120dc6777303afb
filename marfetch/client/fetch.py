"""One payload of one artifact as bytes, for those who hand it on in place of writing it to disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeAlias

from ..artifact.kinds import CHART, HELM_PROVENANCE, matches
from ..artifact.payload import Choice, base_name, select
from ..content import WELL_KNOWN, Source, Verified, copy
from ..document import Json, parse_json
from ..errors import IntegrityError, NotFoundError, PolicyError
from ..oci import Descriptor
from ..reference import Reference
from .resolve import Resolved, Wanted, artifact, resolve
from .session import Session, offline_error

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
    what = str(replace(reference, digest=None) if reference.tag else reference)
    choice = Choice(kinds=(CHART,), provenance=provenance)
    manifest = artifact(client, resolved, choice, None)
    chosen = select(manifest, choice, name=base_name(reference.repository), tag=reference.tag, what=what)
    layers = [one.layer for one in chosen.payloads if matches(one.layer.media_type, (HELM_PROVENANCE,)) is provenance]
    if len(layers) != 1:
        raise NotFoundError(
            f"`{what}` has {len(layers)} layers where one chart is expected",
            code="layer-not-found",
            reference=what,
            hint=f"marfetch inspect {what}",
        )
    return read(client, resolved, layers[0], what, limit=MAX_SIZE, hint=f"marfetch pull {what}"), reference


def read(client: Session, resolved: Resolved, layer: Descriptor, what: str, *, limit: int, hint: str | None = None) -> bytes:
    """A small blob of an artifact, through the cache, checked after it was read.

    Args:
        what: it is, for messages.
        limit: most bytes that are taken.
        hint: where it is larger, the next thing to try.

    Raises:
        PolicyError: `limit-passed`.
        IntegrityError: it is not what its descriptor says.
        Error: it cannot be fetched.
    """
    if layer.size > limit:
        raise PolicyError(
            f"the blob of `{what}` would have {layer.size} bytes, more than {limit}",
            code="limit-passed",
            hint=hint,
            reference=what,
            rule=f"at most {limit} bytes",
        )
    if resolved.source is client.cache and not client.cache.has(layer) and layer.digest not in WELL_KNOWN:
        raise offline_error(resolved.reference)
    for last in (False, True):
        copy(resolved.source, client.cache, resolved.reference, layer, name=what, progress=client.progress)
        with client.cache.open(layer.digest) as file:
            raw = file.read(layer.size + 1)
        verified = Verified(layer)
        try:
            verified.update(raw)
            verified.check()
        except IntegrityError as error:
            if last:
                raise
            client.cache.drop(layer.digest, error.message)
        else:
            return raw
    raise AssertionError("the last try returns or raises")


# -- the config of an artifact: small, and for a chart its metadata (Chart.yaml as JSON)


MAX_CONFIG_SIZE: Final = 1 << 20
"""Bytes of a config that are read."""


def chart_metadata(client: Session, reference: Reference, source: Source, config: Descriptor) -> dict[str, Json]:
    """What a chart's config holds, fetched into the cache.

    Raises:
        PolicyError: `limit-passed`.
        IntegrityError: `malformed`, or it is not what its descriptor says.
        Error: it cannot be fetched.
    """
    if config.size > MAX_CONFIG_SIZE:
        raise PolicyError(
            f"the config of `{reference}` would have {config.size} bytes, more than {MAX_CONFIG_SIZE}",
            code="limit-passed",
            reference=str(reference),
            rule=f"at most {MAX_CONFIG_SIZE} bytes",
        )
    if client.options.offline and not client.cache.has(config):
        raise offline_error(reference)
    copy(source, client.cache, reference, config, name="config", progress=client.progress)
    with client.cache.open(config.digest) as file:
        document = parse_json(file.read(), f"the config of `{reference}`")
    return document if isinstance(document, dict) else {}
