"""The one door to the check of signatures for whatever is fetched: whether one is asked for, and the check itself.

Cryptography is loaded when the first artifact is checked, not before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from ..artifact.kinds import SIGNATURE, matches
from ..client.resolve import Resolved, resolved_to
from ..client.session import Repository, Session
from ..errors import InputError
from ..oci import Digest, Manifest

if TYPE_CHECKING:
    from .artifact import VerifyOptions
    from .verdict import Verdict

ENVIRONMENT: Final = "MARFETCH_VERIFY"


def is_required(*, asked: bool = False) -> bool:
    """Whether signatures are to be checked.

    Args:
        asked: an option or the wanted file says so; otherwise `MARFETCH_VERIFY` may.

    Raises:
        InputError: `usage`: `MARFETCH_VERIFY` is something else than `policy`.
    """
    value = os.environ.get(ENVIRONMENT)
    if value and value != "policy" and not asked:
        raise InputError(
            f"`{ENVIRONMENT}` is `{value[:40]}`; the only value is `policy`", code="usage", hint="leave it out, or say `policy`"
        )
    return asked or bool(value)


def gate(*, asked: bool = False) -> SignatureGate | None:
    """The check that everything has to pass before it is fetched; None where none is required.

    Args:
        asked: as `is_required`.

    Raises:
        InputError: as `is_required`.
    """
    return SignatureGate() if is_required(asked=asked) else None


class SignatureGate:
    """Keeps out what is not signed as the trust policy asks.

    Args:
        options: how to check; None: as Notation's own places say.

    Attributes:
        signer: says of a verdict who signed, which is noted for each artifact; None: nothing is noted.
    """

    signer: Callable[[Verdict], str] | None = None

    def __init__(self, options: VerifyOptions | None = None) -> None:
        self._options = options

    def __call__(self, client: Session, resolved: Resolved) -> Verdict:
        """Check an artifact, and pass on what the policy warns of.

        Args:
            resolved: its digest is the one that is checked and the one that is fetched.

        Raises:
            SignatureError: no signature holds.
            InputError: the trust policy or a store cannot be used.
            Error: the registry failed.
        """
        verdict = self._verdict(client, resolved)
        for warning in verdict.warnings:
            client.progress.warn(warning)
        if self.signer is not None:
            client.progress.note(f"`{resolved.reference}` is {self.signer(verdict)}")
        return verdict

    def referrers(self, repository: Repository, digests: Iterable[Digest]) -> None:
        """Check what refers to an artifact. Signatures are left out: nobody signs those.

        Args:
            repository: that they are in.
            digests: of the referrers.

        Raises:
            Error: as for an artifact.
        """
        for digest in digests:
            own = repository.at(digest=digest)
            manifest = own.manifest()
            # Only its own bytes say what it is: a list may say anything.
            if not (isinstance(manifest, Manifest) and matches(manifest.effective_type, SIGNATURE.types)):
                self._verdict(own.session, resolved_to(own, manifest))

    def _verdict(self, client: Session, resolved: Resolved) -> Verdict:
        from .artifact import VerifyOptions, verify  # late: cryptography, only where signatures are checked

        verdict = verify(client, resolved, self._options or VerifyOptions())
        if verdict.error is not None:
            raise verdict.error
        return verdict
