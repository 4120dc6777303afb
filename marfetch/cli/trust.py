"""`marfetch trust add-microsoft|show|check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..render.table import Row, digest, status
from .help import add, add_group
from .options import Settings, shared
from .verify import TrustPolicy, TrustStore

if TYPE_CHECKING:
    from ..verify.policy import Policy
    from ..verify.truststore import Places, StoreContent

_Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Microsoft's two root certificates, as PEM or DER files.")]
_Scope = Annotated[
    list[str] | None, typer.Option("--scope", metavar="REPOSITORY", help="Repository, such as mcr.microsoft.com/dotnet/sdk (default: all).")
]
_Name = Annotated[str, typer.Option("--name", metavar="NAME", help="Name for the trust stores and the policy statement.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be written, without writing anything.")]


def register(app: typer.Typer) -> None:
    group = add_group(app, "trust", "Manage the trust policy and the trust stores.")
    add(group, trust_add_microsoft, "add-microsoft")
    add(group, trust_show, "show")
    add(group, trust_check, "check")


@shared(network=False)
def trust_add_microsoft(
    settings: Settings,
    files: _Files,
    scope: _Scope = None,
    name: _Name = "microsoft",
    dry_run: _DryRun = False,
    trust_policy: TrustPolicy = None,
    trust_store: TrustStore = None,
) -> int:
    """Trust Microsoft's signatures.

    Adds Microsoft's root certificates for signing and for timestamps to notation's trust stores, and a statement to its trust policy. Only
    certificates with the known SHA-256 digests are accepted. Existing entries are kept.
    """
    from ..verify.policy import STORE_NAME
    from ..verify.truststore import Places, plan, write

    if not STORE_NAME.fullmatch(name):
        raise InputError(f"`--name` takes letters, digits, `_`, `.` and `-`, not `{name[:60]}`", code="usage")
    planned = plan(files, tuple(scope or ("*",)), Places(trust_policy, trust_store), name=name)
    done = "would write" if dry_run else "writes"
    settings.report.table(
        ("status", "path", "content"), [(status(done if one.is_new else "keeps"), str(one.path), one.what) for one in planned]
    )
    if not dry_run:
        write(planned)
    written: Any = [{"path": str(one.path), "new": one.is_new, "what": one.what} for one in planned]
    settings.report.data({"files": written, "dryRun": dry_run})
    return 0


@shared(network=False)
def trust_show(settings: Settings, trust_policy: TrustPolicy = None, trust_store: TrustStore = None) -> int:
    """Show the trust policy and its root certificates."""
    from ..verify.truststore import Places

    places = Places(trust_policy, trust_store)
    policy = places.load_policy()
    rows: list[Row] = [("policy", policy.path), ("stores", str(places.store_root))]
    rows += [("statement", statement.name, statement.level, " ".join(statement.scopes)) for statement in policy.statements]
    stores = _stores(places, policy)
    for name, (certificates, error) in stores.items():
        for one in certificates:
            ends = f"to {one.parsed.not_valid_after_utc:%Y-%m-%d}"
            rows.append(("root", name, one.subject, digest(f"sha256:{one.thumbprint}"), ends))
        if error is not None:
            settings.report.warn(error.message)
    settings.report.facts(rows)
    settings.report.data(_shown(places, policy, stores))
    return 0


@shared(network=False)
def trust_check(settings: Settings, trust_policy: TrustPolicy = None, trust_store: TrustStore = None) -> int:
    """Check the trust policy and its trust stores.

    The exit code is 2 if one of them cannot be used.
    """
    from ..verify.truststore import Places

    places = Places(trust_policy, trust_store)
    policy = places.load_policy()
    for warning in (*policy.warnings, *(warning for statement in policy.statements for warning in statement.warnings)):
        settings.report.warn(warning)
    stores = _stores(places, policy)
    errors = [error for _, error in stores.values() if error is not None]
    data = _shown(places, policy, stores)
    if errors:
        for other in errors[1:]:
            settings.report.error(other)
        settings.report.failed(errors[0], data)
        return errors[0].exit_code
    settings.report.facts([(status("ok"), policy.path)])
    settings.report.data(data)
    return 0


def _stores(places: Places, policy: Policy) -> dict[str, StoreContent]:
    found: dict[str, StoreContent] = {}
    for store in dict.fromkeys(store for statement in policy.statements for store in statement.stores):
        try:
            certificates, path = places.certificates([store]), str(places.store_path(store))
            empty = InputError(f"the trust store `{store}` at `{path}` is empty", code="TRUST_STORE_INVALID", path=path)
            found[str(store)] = certificates, None if certificates else empty
        except InputError as error:
            found[str(store)] = (), error
    return found


def _shown(places: Places, policy: Policy, stores: dict[str, StoreContent]) -> Any:
    return {
        "policy": policy.path,
        "stores": str(places.store_root),
        "statements": [
            {
                "name": one.name,
                "level": one.level,
                "scopes": list(one.scopes),
                "checks": {str(check): str(action) for check, action in one.actions.items()},
                "trustStores": [str(store) for store in one.stores],
                "trustedIdentities": ["*"] if one.identities is None else [dict(identity) for identity in one.identities],
                "warnings": list(one.warnings),
            }
            for one in policy.statements
        ],
        "roots": [
            {
                "store": name,
                "subject": one.subject,
                "sha256": one.thumbprint,
                "notAfter": f"{one.parsed.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
            }
            for name, (certificates, _) in stores.items()
            for one in certificates
        ],
    }
