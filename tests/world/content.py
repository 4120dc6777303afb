"""Names for the content of the test registry (`marfetch.demo.recipe`)."""

from __future__ import annotations

from typing import Final

from marfetch.client.session import Session
from marfetch.content import Source
from marfetch.reference import Reference

ALB: Final = "application-lb/charts/alb-controller"
MODULE: Final = "bicep/avm/res/storage/storage-account"
IMAGE: Final = "azurelinux/3.0/image/minimal-os"


def source_of(client: Session, reference: Reference) -> tuple[Reference, Source]:
    """Return the reference with its host, and the registry as a source that does not use the cache."""
    repository = client.repository(reference)
    return repository.reference, repository.source
