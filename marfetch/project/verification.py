"""Where a project meets the check of signatures: one function, asked before an artifact is locked and before it is fetched."""

from __future__ import annotations

from ..client import Client
from ..errors import SignatureError
from ..resolve import Resolved
from .lock import Verification
from .wanted import Item


def verified(client: Client, item: Item, resolved: Resolved) -> Verification | None:  # noqa: ARG001 - what a check needs
    """Check the signatures of an artifact, where the wanted file asks for that.

    Args:
        resolved: what was found; its digest is the one that is checked and the one that is fetched.

    Returns:
        What the lock says of it; None where no check was asked for.

    Raises:
        SignatureError: the check failed, or cannot be made.
    """
    if not item.verify:
        return None
    raise SignatureError(
        f"`{item.name}` is to be verified, and this marfetch cannot check signatures",
        code="verify-unavailable",
        reference=str(resolved.reference),
        entry=item.name,
    )
