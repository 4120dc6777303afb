"""`marfetch bundle create|inspect|verify|diff|load`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .options import Executor, Settings, Shard, Verify, shared
from .verify import At, Crl, Revocation, TrustPolicy, TrustStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..bundle.format import Opened
    from ..client.session import Session

_File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The wanted file; its lock says what goes into the bundle.")]
_Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The archive that is written; replaced when it is whole.")]
_Since = Annotated[Path | None, typer.Option("--since", metavar="FILE", help="Leave out what this bundle holds: the other side has it.")]
_Referrers = Annotated[bool, typer.Option("--referrers", help="Also signatures, SBOMs, lifecycle marks: whatever refers to the artifacts.")]
_Bundle = Annotated[Path, typer.Argument(metavar="FILE", help="A bundle, or another OCI image layout as a tar or a folder.")]
_A = Annotated[Path, typer.Argument(metavar="FILE", help="The older bundle.")]
_B = Annotated[Path, typer.Argument(metavar="FILE", help="The newer bundle.")]
_To = Annotated[str, typer.Option("--to", metavar="HOST[:PORT][/PREFIX]|DIR", help="Your own registry, or a folder (write ./name).")]
_PlainHttp = Annotated[bool, typer.Option("--plain-http", help="Without TLS; for loopback addresses only.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        no_args_is_help=True, help="One archive with everything that a lock names, for places without a network.", rich_markup_mode=None
    )
    group.command("create")(bundle_create)
    group.command("inspect")(bundle_inspect)
    group.command("verify")(bundle_verify)
    group.command("diff")(bundle_diff)
    group.command("load")(bundle_load)
    app.add_typer(group, name="bundle")


@shared()
def bundle_create(
    settings: Settings,
    output: _Output,
    file: _File = Path("marfetch.yaml"),
    since: _Since = None,
    referrers: _Referrers = False,
) -> int:
    """Write everything that marfetch.lock names into one archive; by digest, no tag is asked for.

    The archive is an OCI image layout, the same bytes on every machine, with the original manifests, the lock, and a page (bundle.html)
    for the person who approves its transfer. What was fetched stays in the cache, so that a run that was stopped goes on.
    """
    from ..bundle.create import create
    from ..project.wanted import read_project
    from ..render.bundle import created

    project = read_project(file)
    with settings.client(endpoint=project.endpoint) as client:
        result = create(client, project, output, since=since, with_referrers=referrers)
    return created(settings.report, result)


@shared(network=False, local=True)
def bundle_inspect(settings: Settings, file: _Bundle) -> int:
    """Say what is in a bundle, and with which lines other tools get each artifact out.

    Prints one line for each artifact: name, version, kind, size, and the pinned reference; below it, behind a tab, what refers to it and
    the lines for oras, skopeo, regctl, crane and helm; for content that a delta leaves out, the bundle that has it. The exit code is 5 when
    something in it is missing, extra or wrong, as far as that is seen without hashing blobs.
    """
    from ..bundle.check import check_bundle
    from ..bundle.format import opened
    from ..render.bundle import inspected

    with opened(file) as found:
        checked = check_bundle(found, budget=settings.budget().check, reads_blobs=False) if found.is_bundle else None
        return inspected(settings.report, found, checked)


@shared(network=False, local=True)
def bundle_verify(
    settings: Settings,
    file: _Bundle,
    since: _Since = None,
    trust_policy: TrustPolicy = None,
    trust_store: TrustStore = None,
    at: At = None,
    crl: Crl = None,
    revocation: Revocation = None,
    verify: Verify = False,
) -> int:
    """Check everything in a bundle, offline: its form, every digest, its lock, its signatures; prints what is missing, extra or wrong.

    The exit code is 5 when there is anything of that, and 6 when all of it is whole but a signature does not hold. Signatures are checked
    where a trust policy is there; with --verify or --trust-policy every artifact has to be signed. With --since, a delta is compared with
    the bundle that it goes on from.
    """

    from ..bundle.check import check_bundle
    from ..bundle.format import opened
    from ..render.bundle import verified
    from ..verify.artifact import options_of
    from ..verify.gate import is_required

    request = options_of(trust_policy, trust_store, at, crl, revocation)
    is_needed = is_required(asked=verify or trust_policy is not None)
    with ExitStack() as stack:
        found = stack.enter_context(opened(file))
        base = stack.enter_context(opened(since)) if since is not None else None
        checked = check_bundle(found, base=base, budget=settings.budget().check)
        judged = None
        if not checked.findings:
            from ..bundle.signatures import check_signatures

            judged = check_signatures(_offline(settings, stack), found, request, base=base, is_required=is_needed)
        return verified(settings.report, found, checked, judged)


@shared(network=False, local=True)
def bundle_diff(settings: Settings, a: _A, b: _B) -> int:
    """Show in which artifacts two bundles differ; the exit code is 1 where they do.

    Prints one line for each: what became of it, its name, and what it was and is. Both are checked first, as `bundle verify` does, and the
    exit code is 5 where one is broken.
    """
    from ..bundle.format import opened
    from ..bundle.inventory import differences
    from ..render.bundle import compared

    with opened(a) as old, opened(b) as new:
        return compared(settings.report, a, b, differences(old, new, budget=settings.budget().check))


@shared()
def bundle_load(
    settings: Settings,
    file: _Bundle,
    to: _To,
    plain_http: _PlainHttp = False,
    shard: Shard = None,
    executor: Executor = None,
    verify: Verify = False,
) -> int:
    """Check a bundle, and bring what is in it into a registry of your own, or into a folder: only what is missing there.

    Repositories keep their paths, behind the prefix. Prints one line for each artifact: what became of it, and where it is, pinned.
    Nothing is sent before everything was checked, and nothing ever to MAR.
    """
    from ..bundle.load import To, load
    from ..client.workers import spread
    from ..project.sync import Shard as Part
    from ..render.bundle import loaded
    from ..verify.gate import is_required

    if settings.endpoint is not None:
        raise InputError("`--endpoint` is where artifacts come from; where they go is `--to`", code="usage", hint="leave `--endpoint` out")
    target = To.parse(to, plain_http=plain_http, data_hosts=settings.data_hosts)
    part = Part.parse(shard) if shard is not None else None
    with ExitStack() as stack:
        client = stack.enter_context(settings.client())
        workers = stack.enter_context(spread(executor)) if executor is not None else None
        gate = _gate(settings, stack) if is_required(asked=verify) else None
        return loaded(settings.report, file, target, load(client, file, target, shard=part, executor=workers, gate=gate))


def _offline(settings: Settings, stack: ExitStack) -> Callable[[], Session]:
    """Makes a client that asks nobody; only where one is needed, since a bundle can be checked where there is no cache."""
    return lambda: stack.enter_context(settings._replace(offline=True).client())


def _gate(settings: Settings, stack: ExitStack) -> Callable[[Opened], None]:
    """Refuses a bundle in which something is not signed as the trust policy asks."""
    from ..bundle.signatures import check_signatures
    from ..render.bundle import refusal_of

    def gate(found: Opened) -> None:
        judged = check_signatures(_offline(settings, stack), found, is_required=True)
        failed = [one.error for one in judged or () if one.error is not None]
        if failed:
            raise refusal_of(failed)

    return gate
