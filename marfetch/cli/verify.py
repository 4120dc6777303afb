"""`marfetch verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .options import Devel, OneReference, Settings, Version, shared

TrustPolicy = Annotated[Path | None, typer.Option("--trust-policy", metavar="FILE", help="The trust policy; default: notation's own.")]
TrustStore = Annotated[
    Path | None, typer.Option("--trust-store", metavar="DIR", help="The directory that holds x509/; default: notation's own.")
]
At = Annotated[str | None, typer.Option("--at", metavar="RFC3339", help="As of that moment, in place of now.")]
Crl = Annotated[list[Path] | None, typer.Option("--crl", metavar="DIR", help="Revocation lists, DER or PEM.")]
Revocation = Annotated[
    str | None, typer.Option("--revocation", metavar="ACTION", help="enforce, log or skip, in place of what the policy says.")
]
_Keyring = Annotated[Path | None, typer.Option("--keyring", metavar="FILE", help="Check Helm provenance with the OpenPGP keys in it.")]
_Metadata = Annotated[
    list[str] | None, typer.Option("--user-metadata", "-m", metavar="KEY=VALUE", help="An annotation that the signature must carry.")
]
_RefuseEol = Annotated[bool, typer.Option("--refuse-eol", help="Refuse what is past its end of life.")]


def register(app: typer.Typer) -> None:
    app.command()(verify)


@shared()
def verify(
    settings: Settings,
    reference: OneReference,
    version: Version = None,
    devel: Devel = False,
    trust_policy: TrustPolicy = None,
    trust_store: TrustStore = None,
    at: At = None,
    crl: Crl = None,
    revocation: Revocation = None,
    user_metadata: _Metadata = None,
    keyring: _Keyring = None,
    refuse_eol: _RefuseEol = False,
) -> int:
    """Check who signed an artifact: Notary Project signatures against the trust policy that notation reads, Helm provenance, end of life.

    Says who signed, when, which root vouches for it, which checks were done and which were not.
    """
    from dataclasses import replace

    from ..client.resolve import resolve
    from ..render.pull import wanted
    from ..render.verify import judged
    from ..verify.artifact import options_of
    from ..verify.artifact import verify as verify_one

    request = replace(
        options_of(trust_policy, trust_store, at, crl, revocation),
        metadata=dict(map(_pair, user_metadata or ())),
        keyring=keyring,
        refuse_ended=refuse_eol,
    )
    asked = wanted(settings.report, reference, version, devel=devel)
    with settings.client() as client:
        resolved = resolve(client, asked)
        verdict = verify_one(client, resolved, request)
    return judged(settings.report, resolved, verdict)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"`--user-metadata` takes `KEY=VALUE`, not `{text[:80]}`", code="usage")
    return key, value
