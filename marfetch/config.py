"""The config of an artifact: small, and for a chart its metadata (Chart.yaml as JSON)."""

from __future__ import annotations

from typing import Final

from .client.session import Session, offline_error
from .content import Source, copy
from .document import Json, parse_json
from .errors import PolicyError
from .oci import Descriptor
from .reference import Reference

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
