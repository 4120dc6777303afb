"""The checks before a download: whether signatures are required and valid, and whether an artifact is old enough.

The cryptography libraries are imported when the first artifact is checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ..artifact.kinds import SIGNATURE, matches
from ..client.resolve import Resolved, resolved_to
from ..client.session import Repository, Session
from ..errors import InputError
from ..oci import Digest, Index, Manifest

if TYPE_CHECKING:
    from ..client.age import CoolDown
    from .artifact import VerifyOptions
    from .verdict import Verdict

ENVIRONMENT: Final = "MARFETCH_VERIFY"


def is_required(*, asked: bool = False) -> bool:
    """Return whether signatures must be checked.

    Args:
        asked: whether an option or the project file requires the check. If not, `MARFETCH_VERIFY` decides.

    Raises:
        InputError: `usage`: `MARFETCH_VERIFY` has a value other than `policy`.
    """
    value = os.environ.get(ENVIRONMENT)
    if value and value != "policy" and not asked:
        raise InputError(f"`{ENVIRONMENT}` is `{value[:40]}`, not `policy`", code="usage", hint="set it to `policy`, or unset it")
    return asked or bool(value)


def gate(*, asked: bool = False) -> SignatureGate | None:
    """Return the check that artifacts must pass before they are downloaded; None if no check is required.

    Args:
        asked: as for `is_required`.

    Raises:
        InputError: as for `is_required`.
    """
    return SignatureGate() if is_required(asked=asked) else None


class SignatureGate:
    """Rejects artifacts that do not satisfy the trust policy.

    Args:
        options: the options of the verification; None for notation's own trust policy and trust stores.

    Attributes:
        signer: returns a description of the signer, for a note about each artifact; None for no notes.
    """

    signer: Callable[[Verdict], str] | None = None

    def __init__(self, options: VerifyOptions | None = None) -> None:
        self._options = options

    def __call__(self, client: Session, resolved: Resolved) -> Verdict:
        """Check an artifact and report its warnings.

        Args:
            resolved: the artifact. The check and the download use the same digest.

        Raises:
            SignatureError: no signature is valid and trusted.
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
        """Check the signatures of an artifact's referrers. Skip referrers that are signatures, because they are not signed themselves.

        Args:
            repository: the repository of the referrers.
            digests: the digests of the referrers.

        Raises:
            Error: as for the check of an artifact.
        """
        for digest in digests:
            own = repository.at(digest=digest)
            manifest = own.manifest()
            # Trust the type in the manifest, not the one in the list of referrers.
            if not (isinstance(manifest, Manifest) and matches(manifest.effective_type, SIGNATURE.types)):
                self._verdict(own.session, resolved_to(own, manifest))

    def _verdict(self, client: Session, resolved: Resolved) -> Verdict:
        from .artifact import VerifyOptions, verify  # late: loads cryptography, which only signature checks need

        verdict = verify(client, resolved, self._options or VerifyOptions())
        if verdict.error is not None:
            raise verdict.error
        return verdict


def cool_down(text: str | None, *, now: datetime | None = None) -> CoolDown | None:
    """Return the minimum age of versions that `--min-age` or `min-age` in the project file states; None if it is zero or not given.

    Args:
        now: the current time; None for the clock of this machine.

    Raises:
        InputError: `usage`.
    """
    if text is None:
        return None
    from ..client.age import CoolDown, minimum_age  # late: needed only for cool-downs

    minimum = minimum_age(text)
    return CoolDown(text, minimum, now or datetime.now(UTC), _signed_at) if minimum else None


def _signed_at(repository: Repository, found: Manifest | Index, most: int) -> tuple[datetime | None, int]:
    from .artifact import proven_time  # late: cryptography, only for a cool-down

    return proven_time(repository.session, resolved_to(repository, found), most)
