"""`marfetch verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .help import add
from .options import REFERENCE_HELP, Devel, PlatformName, Settings, Version, shared

if TYPE_CHECKING:
    from ..verify.artifact import VerifyOptions

TrustPolicy = Annotated[Path | None, typer.Option("--trust-policy", metavar="FILE", help="Trust policy (default: notation's).")]
TrustStore = Annotated[
    Path | None, typer.Option("--trust-store", metavar="DIR", help="Directory with the x509 trust stores (default: notation's).")
]
At = Annotated[str | None, typer.Option("--at", metavar="RFC3339", help="Verify as of this time instead of now.")]
Crl = Annotated[list[Path] | None, typer.Option("--crl", metavar="DIR", help="Directory with revocation lists (CRLs), PEM or DER.")]
Revocation = Annotated[
    str | None, typer.Option("--revocation", metavar="ACTION", help="Revocation check: enforce, log or skip (default: as in the policy).")
]
_Reference = Annotated[str | None, typer.Argument(metavar="[REF]", help=REFERENCE_HELP)]
_File = Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="Project file; verify every artifact in its lock file.")]
_Keyring = Annotated[Path | None, typer.Option("--keyring", metavar="FILE", help="Check the Helm provenance file with these OpenPGP keys.")]
_Metadata = Annotated[
    list[str] | None, typer.Option("--user-metadata", "-m", metavar="KEY=VALUE", help="Annotation that the signature must have.")
]
_RefuseEol = Annotated[bool, typer.Option("--refuse-eol", help="Fail if the artifact is past its end of life.")]


def register(app: typer.Typer) -> None:
    add(app, verify)


@shared()
def verify(
    settings: Settings,
    reference: _Reference = None,
    file: _File = None,
    version: Version = None,
    devel: Devel = False,
    platform: PlatformName = None,
    trust_policy: TrustPolicy = None,
    trust_store: TrustStore = None,
    at: At = None,
    crl: Crl = None,
    revocation: Revocation = None,
    user_metadata: _Metadata = None,
    keyring: _Keyring = None,
    refuse_eol: _RefuseEol = False,
) -> int:
    """Verify an artifact's signatures and end of life.

    Checks Notary Project signatures against notation's trust policy, and the Helm provenance file with `--keyring`. Prints the signer, the
    time, the root certificate, and the result of each check. With `--platform`, the index and the manifest for that platform must both be
    signed. With `--file`, verifies everything in marfetch.lock, and prints one line per artifact.
    """
    from dataclasses import replace

    from ..client.resolve import resolve
    from ..oci import Platform
    from ..render.verify import print_verdict
    from ..verify.artifact import options_of
    from ..verify.artifact import verify as verify_one

    options = replace(
        options_of(trust_policy, trust_store, at, crl, revocation),
        metadata=dict(map(_pair, user_metadata or ())),
        keyring=keyring,
        refuse_ended=refuse_eol,
        platform=Platform.parse(platform) if platform is not None else None,
    )
    if file is not None:
        for name, value in (("REF", reference), ("--version", version), ("--devel", devel), ("--platform", platform)):
            if value:
                raise InputError(f"`{name}` and `--file` cannot be combined", code="usage", hint="use only one of them")
        return _verify_project(settings, file, options)
    if reference is None:
        hint = "marfetch verify REF, or marfetch verify -f marfetch.yaml"
        raise InputError("`verify` needs a reference or `--file`", code="usage", hint=hint)
    request = settings.request(reference, version, devel=devel)
    with settings.client() as client:
        resolved = resolve(client, request)
        verdict = verify_one(client, resolved, options)
    return print_verdict(settings.report, resolved, verdict)


def _verify_project(settings: Settings, file: Path, options: VerifyOptions) -> int:
    from ..project.audit import audit
    from ..project.lockfile import read_lock
    from ..project.locking import refuse_misfits
    from ..project.wanted import read_project
    from ..render.verify import print_audit

    project = read_project(file)
    lock = read_lock(project.lock_path)
    refuse_misfits(project, lock)
    with settings.client(endpoint=project.endpoint) as client:
        result = audit(client, project, lock, options)
    return print_audit(settings.report, str(project.lock_path), result)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"`--user-metadata` takes `KEY=VALUE`, not `{text[:80]}`", code="usage")
    return key, value
