"""`marfetch bundle create|inspect|verify|diff|load|overlay|sbom`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..errors import InputError
from .help import add, add_group
from .options import Executor, Settings, Shard, Verify, shared
from .verify import At, Crl, Revocation, TrustPolicy, TrustStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..bundle.format import Opened
    from ..client.session import Session

_File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="Project file whose lock file lists the artifacts to bundle.")]
_Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Archive to write; an existing file is replaced.")]
_Since = Annotated[Path | None, typer.Option("--since", metavar="FILE", help="Leave out content that this earlier bundle already has.")]
_Base = Annotated[Path | None, typer.Option("--since", metavar="FILE", help="Base bundle of this delta, to compare the delta with.")]
Referrers = Annotated[bool, typer.Option("--referrers", help="Include referrers: signatures, SBOMs, end-of-life marks and others.")]
_Bundle = Annotated[Path, typer.Argument(metavar="FILE", help="Bundle or other OCI image layout, as a tar file or a directory.")]
_A = Annotated[Path, typer.Argument(metavar="FILE", help="Older bundle.")]
_B = Annotated[Path, typer.Argument(metavar="FILE", help="Newer bundle.")]
_To = Annotated[str, typer.Option("--to", metavar="HOST[:PORT][/PREFIX]|DIR", help="Your own registry, or a directory, written as ./NAME.")]
PlainHttp = Annotated[bool, typer.Option("--plain-http", help="Use HTTP instead of HTTPS; for loopback addresses only.")]
_Registry = Annotated[str, typer.Option("--registry", metavar="HOST[/PREFIX]", help="Registry that has the content of the bundle.")]
_ChartName = Annotated[str | None, typer.Option("--chart", metavar="NAME", help="Only the chart with this name in the lock file.")]
_Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 if an image cannot be pointed at the registry.")]
_COMPRESSED: Final = (".gz", ".tgz", ".zst", ".tzst", ".xz", ".txz", ".bz2", ".tbz2", ".lz4", ".zip")
"""File extensions of compressed files."""


def register(app: typer.Typer) -> None:
    group = add_group(app, "bundle", "Pack locked artifacts for machines without a network.")
    add(group, bundle_create, "create")
    add(group, bundle_inspect, "inspect")
    add(group, bundle_verify, "verify")
    add(group, bundle_diff, "diff")
    add(group, bundle_load, "load")
    add(group, bundle_overlay, "overlay")
    add(group, bundle_sbom, "sbom")


@shared()
def bundle_create(
    settings: Settings,
    output: _Output,
    file: _File = Path("marfetch.yaml"),
    since: _Since = None,
    referrers: Referrers = False,
) -> int:
    """Write a bundle with everything in marfetch.lock.

    A bundle is an OCI image layout in a tar file. It holds the original manifests and blobs, the lock file, and bundle.html, a page for the
    person who approves the transfer. The same lock file gives the same bytes on every machine. Artifacts are requested by digest, never by
    tag. An interrupted run resumes from the cache.
    """
    from ..bundle.create import create
    from ..project.wanted import read_project
    from ..render.bundle import print_created

    if str(output) == "-":
        raise InputError("a bundle cannot be written to stdout", code="usage", hint="name a file, such as `-o bundle.tar`")
    if output.suffix.lower() in _COMPRESSED:
        settings.report.warn(
            f"`{output}` will not be compressed, although its name ends in `{output.suffix}`: a bundle is a plain tar file"
        )
    project = read_project(file)
    with settings.client(endpoint=project.endpoint) as client:
        result = create(client, project, output, since=since, with_referrers=referrers)
    return print_created(settings.report, result)


@shared(network=False, local=True)
def bundle_inspect(settings: Settings, file: _Bundle) -> int:
    """List the artifacts in a bundle.

    Prints one line per artifact: name, version, kind, size and pinned reference. Indented lines below it show its referrers, the commands
    that extract it with oras, skopeo, regctl, crane or helm. If content was left out of a delta, they also name its base bundle. Blobs
    are not hashed. The exit code is 5 if anything is missing, unexpected or wrong.
    """
    from ..bundle.check import check_bundle
    from ..bundle.format import opened
    from ..render.bundle import print_contents

    with opened(file) as found:
        checked = check_bundle(found, budget=settings.budget().check, reads_blobs=False) if found.is_bundle else None
        return print_contents(settings.report, found, checked)


@shared(network=False, local=True)
def bundle_verify(
    settings: Settings,
    file: _Bundle,
    since: _Base = None,
    trust_policy: TrustPolicy = None,
    trust_store: TrustStore = None,
    at: At = None,
    crl: Crl = None,
    revocation: Revocation = None,
    verify: Verify = False,
) -> int:
    """Check a bundle's content and signatures offline.

    Checks the archive format, every digest, the lock file and the signatures, and prints what is missing, unexpected or wrong. Signatures
    are checked if there is a trust policy; with `--verify` or `--trust-policy`, every artifact must be signed. With `--since`, a delta is
    compared with its base bundle. Of a folder that a bundle was loaded into, only the content is checked. The exit code is 5 for broken
    content, and 6 if only signatures fail.
    """
    from ..bundle.check import check_bundle, check_content
    from ..bundle.format import opened
    from ..render.bundle import print_check
    from ..verify.artifact import options_of
    from ..verify.gate import is_required

    request = options_of(trust_policy, trust_store, at, crl, revocation)
    is_needed = is_required(asked=verify or trust_policy is not None)
    with ExitStack() as stack:
        found = stack.enter_context(opened(file))
        base = stack.enter_context(opened(since)) if since is not None else None
        budget, progress = settings.budget().check, settings.report.progress
        if base is None and file.is_dir():  # a folder that a bundle was loaded into has no record
            checked = check_content(found, budget=budget, progress=progress)
        else:
            checked = check_bundle(found, base=base, budget=budget, progress=progress)
        signatures = None
        if not checked.findings:
            from ..bundle.signatures import check_signatures

            signatures = check_signatures(_offline(settings, stack), found, request, base=base, is_required=is_needed)
        return print_check(settings.report, found, checked, signatures)


@shared(network=False, local=True)
def bundle_diff(settings: Settings, a: _A, b: _B) -> int:
    """Compare the artifacts of two bundles.

    Prints one line per difference: the change, the name, and the old and new reference. Both bundles are checked first, as `bundle verify`
    does. The exit code is 1 if they differ, and 5 if one is broken.
    """
    from ..bundle.format import opened
    from ..bundle.inventory import differences
    from ..render.bundle import print_differences

    with opened(a) as old, opened(b) as new:
        return print_differences(settings.report, a, b, differences(old, new, budget=settings.budget().check))


@shared()
def bundle_load(
    settings: Settings,
    file: _Bundle,
    to: _To,
    plain_http: PlainHttp = False,
    shard: Shard = None,
    executor: Executor = None,
    verify: Verify = False,
) -> int:
    """Copy a bundle into your own registry or a directory.

    Checks the whole bundle first, then uploads only what the target lacks. Repositories keep their paths below the prefix. Prints one line
    per artifact: the outcome and the new pinned reference. Nothing is ever uploaded to MAR.
    """
    from ..bundle.clients import client_lines
    from ..bundle.load import To, load
    from ..client.workers import spread
    from ..project.sync import Shard as Part
    from ..render.bundle import print_loaded
    from ..verify.gate import is_required

    if settings.endpoint is not None:
        raise InputError("`bundle load` does not take `--endpoint`; its target is `--to`", code="usage", hint="remove `--endpoint`")
    target = To.parse(to, plain_http=plain_http, data_hosts=settings.data_hosts)
    part = Part.parse(shard) if shard is not None else None
    with ExitStack() as stack:
        client = stack.enter_context(settings.client())
        workers = stack.enter_context(spread(executor)) if executor is not None else None
        gate = _gate(settings, stack) if is_required(asked=verify) else None
        found = load(client, file, target, shard=part, executor=workers, gate=gate)
        return print_loaded(settings.report, file, target, found, client_lines(target, found))


@shared(network=False, local=True)
def bundle_sbom(settings: Settings, file: _Bundle) -> int:
    """Print a bill of materials in CycloneDX format.

    Prints CycloneDX 1.6 as JSON: one component for each artifact, with its digest, purl and the licenses that it declares. Images that
    charts name but that are not in the bundle have the scope `excluded`. Equal bundles give equal bytes. Needs the extra `sbom`. The exit
    code is 5 if anything is missing, unexpected or wrong.
    """
    from ..bundle.format import opened
    from ..bundle.sbom import sbom

    with opened(file) as found:
        document = sbom(found, settings.budget().check)
    if not settings.report.as_json:
        settings.report.json_text(document)
    settings.report.data({"path": str(file), "sbom": json.loads(document)})
    return 0


@shared(network=False, local=True)
def bundle_overlay(settings: Settings, file: _Bundle, registry: _Registry, chart: _ChartName = None, strict: _Strict = False) -> int:
    """Print values that point charts at your own registry.

    Prints a values file per chart, separated by `---`, for the registry that `bundle load --to` or `mirror` filled. Images that no value
    can point there are comments; with `--strict`, the exit code is then 1.
    """
    from ..bundle.format import opened
    from ..bundle.load import To
    from ..bundle.overlay import overlays
    from ..render.images import print_overlays

    to = To.parse(registry)
    with opened(file) as found:
        made = overlays(found, to, chart, settings.budget().check)
    return print_overlays(settings.report, made, registry.removesuffix("/"), is_strict=strict)


def _offline(settings: Settings, stack: ExitStack) -> Callable[[], Session]:
    """Return a function that opens an offline client. It is called only if there are signatures to check."""
    return lambda: stack.enter_context(settings._replace(offline=True).client())


def _gate(settings: Settings, stack: ExitStack) -> Callable[[Opened], None]:
    """Return a check that refuses a bundle unless the trust policy accepts the signatures of all its artifacts."""
    from ..bundle.signatures import check_signatures
    from ..render.bundle import combined_error

    def gate(found: Opened) -> None:
        signatures = check_signatures(_offline(settings, stack), found, is_required=True)
        errors = [one.error for one in signatures or () if one.error is not None]
        if errors:
            raise combined_error(errors)

    return gate
