"""Resolve tags, digests and version ranges to manifests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from ..artifact.kinds import IMAGE, Kind, kind_of, matches
from ..artifact.payload import Choice, Payload
from ..constraint import ANY, ANY_OR_PRERELEASE, Constraint, TaggedVersion, distinct, exact_version, read_version, sort_versions, tag_of
from ..errors import Error, InputError, IntegrityError, NotFoundError, PolicyError, RemoteError
from ..oci import Descriptor, Index, Manifest, Platform
from ..reference import Reference
from ..text import counted
from .session import Repository, Session

if TYPE_CHECKING:
    from .age import CoolDown, HeldBack
    from .fitting import Allowance, Look


class Wanted(NamedTuple):
    """One artifact to resolve.

    Attributes:
        version: a range in Helm's syntax; allowed only if the reference has neither tag nor digest.
        devel: include prereleases.
        choice: filters for a range: pick the newest version that matches, if there is one. By default, container images do not match.
        cool_down: the minimum age of the versions that a range may pick; None for no minimum.
    """

    reference: Reference
    version: str | None = None
    devel: bool = False
    choice: Choice = Choice()
    cool_down: CoolDown | None = None


class Resolved(NamedTuple):
    """A resolved artifact.

    Attributes:
        reference: the reference with host and digest, and with the tag if the artifact was found by a tag.
        manifest: a manifest or an index.
        repository: the repository that has the artifact's content.
        version: the version of the tag, or None.
        newer: the newest released version, if it is newer than `version` and known without another request.
        held_back: newer versions in the range that are too young, newest first.
    """

    reference: Reference
    manifest: Manifest | Index
    repository: Repository
    version: TaggedVersion | None = None
    newer: TaggedVersion | None = None
    held_back: tuple[HeldBack, ...] = ()


def resolve(client: Session, wanted: Wanted, *, skip_missing: bool = False, hints: bool = True) -> Resolved:
    """Resolve a reference or a version range to a manifest.

    Args:
        skip_missing: skip versions whose manifest is missing, with a warning.
        hints: whether to add a "did you mean" hint if the repository does not exist.

    Raises:
        InputError: `usage`: the reference has a tag or digest, and a version is given too; `constraint-invalid`.
        NotFoundError: no version is in the range, or the artifact does not exist.
        PolicyError: the reference names a host that is refused.
    """
    try:
        return _resolve(client, wanted, skip_missing=skip_missing)
    except NotFoundError as error:
        if hints:
            from .catalog import suggest  # late: needed only to explain an error

            suggest(client, error, wanted.reference)
        raise


def _resolve(client: Session, wanted: Wanted, *, skip_missing: bool) -> Resolved:
    constraint = _constraint(wanted)
    repository = client.repository(wanted.reference)
    if constraint is None:
        try:
            manifest = repository.manifest()
        except NotFoundError as error:
            raise _with_neighbours(error, repository) from error
        return _warned(wanted, resolved_to(repository, manifest))
    missing: set[str] = set()
    exact = exact_version(wanted.version) if wanted.version else None
    if exact is not None:
        # An exact version is usually a tag, so try this tag before requesting the tag list.
        tagged = repository.at(tag=tag_of(exact))
        try:
            manifest = tagged.manifest()
        except (NotFoundError, RemoteError) as error:
            if error.code not in ("tag-not-found", "manifest-not-found", "offline"):
                raise
            missing.add(tag_of(exact))
        else:
            # With filters, check the manifest: the tag `1.2.3` may be an image, and the tag `v1.2.3` the chart.
            if wanted.choice.is_any or _fits(tagged, manifest, wanted.choice):
                return _warned(wanted, resolved_to(tagged, manifest))
        return _warned(wanted, _newest(wanted._replace(cool_down=None), constraint, repository, missing, skip_missing=skip_missing))
    return _newest(wanted, constraint, repository, missing, skip_missing=skip_missing)


def _warned(wanted: Wanted, resolved: Resolved) -> Resolved:
    """Warn if an artifact that was named exactly is too young, and return it."""
    if wanted.cool_down is not None:
        from .fitting import MAX_MANIFESTS  # late: needed only for ranges and cool-downs

        reason, _ = wanted.cool_down.held_back(resolved.repository, resolved.manifest, MAX_MANIFESTS - 1)
        if reason is not None:
            resolved.repository.session.progress.warn(
                f"`{resolved.reference.shown}` is used because it was named exactly,"
                f" although it is not known to be {wanted.cool_down.text} old: {reason}"
            )
    return resolved


def _fits(tagged: Repository, manifest: Manifest | Index, choice: Choice) -> bool:
    from .fitting import fits  # late: needed only for filters

    return fits(tagged, manifest, choice)


def resolved_to(repository: Repository, manifest: Manifest | Index, newer: TaggedVersion | None = None) -> Resolved:
    """Build the result for the manifest that a repository's reference names."""
    reference = repository.reference
    version = read_version(reference.tag) if reference.tag else None
    return Resolved(reference.pinned(manifest.descriptor.digest), manifest, repository, version, newer)


def _newest(wanted: Wanted, constraint: Constraint, repository: Repository, missing: set[str], *, skip_missing: bool) -> Resolved:
    from .fitting import Allowance, looked_at  # late: needed only for ranges
    from .unresolved import DANGLING_TRIES, all_gone, gone, nothing_in_range, too_young  # late: needed only for ranges

    client, bound, cool_down = repository.session, repository.reference, wanted.cool_down
    tags = repository.tags()
    versions = sort_versions(tags)
    candidates = constraint.select(versions, prereleases=wanted.devel)
    if not candidates:
        raise nothing_in_range(wanted.version, constraint, bound, tags, versions, offline=client.options.offline)
    skipped: list[Look] = []
    absent: list[tuple[TaggedVersion, Error]] = []
    held: list[HeldBack] = []
    failed: Error | None = None
    picked: Look | None = None
    number, allowance, is_artifact = -1, Allowance(), False
    looks = looked_at(repository, candidates, wanted.choice, missing=missing, cool_down=cool_down, allowance=allowance)
    for number, look in enumerate(looks):
        is_artifact = is_artifact or look.fits
        if look.is_held_back(held):
            continue
        error = look.error
        if isinstance(error, NotFoundError):
            following = candidates[number + 1] if number + 1 < len(candidates) else None
            error = gone(error, repository, look.version, following, tags)
            absent.append((look.version, error))
            if skip_missing and following is not None:
                if len(absent) < DANGLING_TRIES:
                    continue
                error = all_gone(bound)
        # If all versions are images, the newest image is picked below, and the errors of older versions do not matter.
        failed = failed or error
        picked = look if look.fits else None
        if picked is not None or (failed is not None and not skipped):
            break
        skipped += [look] if look.found is not None else []
    if picked is None and skipped and not is_artifact:  # only images
        failed, picked = None, _old_enough(repository, skipped, cool_down, held, allowance)
    if failed is not None or picked is None:
        raise failed or too_young(bound, cool_down, held, others=len(candidates) - number - 1)
    assert picked.found is not None, "only a manifest fits"
    for version, error in absent:
        if version.key >= picked.version.key:
            client.progress.warn(f"{error.message}; using `{picked.version.version}`")
    notes = [(held[0].version, f"is held back: {held[0].reason}")] if held else []
    if picked.fits and skipped:
        notes.append((skipped[0].version, "is a container image" if wanted.choice.is_any else "does not match the filters"))
    for version, reason in notes:
        client.progress.note(f"`{version.tag}` of `{bound.full_repository}` {reason}; using `{picked.version.tag}`")
    newest = next((version for version in versions if not version.is_prerelease), None)
    is_newer = newest is not None and newest.key > picked.version.key and not skipped and not held
    resolved = resolved_to(repository.at(tag=picked.version.tag), picked.found, newest if is_newer else None)
    return resolved._replace(held_back=tuple(held))


def _old_enough(
    repository: Repository, looks: Sequence[Look], cool_down: CoolDown | None, held: list[HeldBack], allowance: Allowance
) -> Look | None:
    """Return the first version that is old enough; None if there is none.

    Args:
        held: collects the versions that are too young.
    """
    from .age import HeldBack  # late: needed only for cool-downs
    from .fitting import held_back  # late: needed only for ranges

    for look in looks:
        if (reason := held_back(repository, look, cool_down, allowance)) is None:
            return look
        held.append(HeldBack(look.version, reason))
    return None


def _with_neighbours(error: NotFoundError, repository: Repository) -> NotFoundError:
    """Add similar tags to the error about a missing tag. This costs one more request."""
    from .catalog import nearest  # late: needed only to explain an error
    from .unresolved import dangling, next_best  # late: needed only to explain an error

    bound = repository.reference
    if error.code != "tag-not-found" or bound.tag is None or repository.session.options.offline:
        return error
    with suppress(Error):
        try:
            tags = repository.tags()
        except NotFoundError as missing:
            # MAR returns the same error for a wrong tag and a wrong repository; the tag list distinguishes them.
            return missing if missing.code == "repository-not-found" else error
        if bound.tag in tags:
            return dangling(error, bound, next_best(tags, bound.tag))
        near = nearest(tags, bound.tag, limit=3)
        newest = ANY.newest(tags) or next(iter(tags), None)
        error.context["nearest"] = near or ([newest] if newest else [])
        if newest:
            shown = " and ".join(f"`{tag}`" for tag in dict.fromkeys([*near, newest]))
            error.hint = f"available tags include {shown}; to list all, run: marfetch versions {bound.full_repository}"
    return error


def versions(client: Session, reference: Reference) -> tuple[Repository, dict[str, list[TaggedVersion]], list[str]]:
    """List the versions of a repository.

    Returns:
        The repository; version → its tags, newest first; the tags that are not versions.

    Raises:
        InputError: `usage`: the reference has a tag or digest.
        NotFoundError: `repository-not-found`.
    """
    if reference.tag or reference.digest:
        raise InputError(
            f"versions belong to a repository, but `{reference}` names one artifact",
            code="usage",
            hint=f"marfetch versions {reference.full_repository}",
            reference=str(reference),
        )
    repository = client.repository(reference)
    try:
        tags = repository.tags()
    except NotFoundError as error:
        from .catalog import suggest  # late: needed only to explain an error

        suggest(client, error, reference)
        raise
    versions = sort_versions(tags)
    known = {version.tag for version in versions}
    return repository, distinct(versions), [tag for tag in dict.fromkeys(tags) if tag not in known]


def _constraint(wanted: Wanted) -> Constraint | None:
    """Return the requested range; None if the reference has a tag or digest."""
    reference = wanted.reference
    if reference.tag or reference.digest:
        if wanted.version is not None:
            named = "tag" if reference.tag else "digest"
            raise InputError(
                f"`{reference}` has a {named}, which cannot be combined with `--version {wanted.version}`",
                code="usage",
                hint=f"remove one of the two, as in `{reference.full_repository}` with `--version`",
                reference=str(reference),
            )
        return None
    if wanted.version is not None:
        return Constraint.parse(wanted.version)
    return ANY_OR_PRERELEASE if wanted.devel else ANY


# -- choosing a manifest from an index


MAX_NESTING: Final = 2
_LOOKED_AT: Final = 16
"""In an index with more manifests than this, marfetch does not look for the only artifact among images."""


def artifact(resolved: Resolved, choice: Choice, platform: Platform | None) -> Manifest:
    """Return the artifact's manifest. From an index, choose the manifest for the platform, or the only artifact.

    Raises:
        InputError: `platform-needed`.
        NotFoundError: `platform-not-found`.
        PolicyError: `limit-passed`.
    """
    manifest = resolved.manifest
    for _ in range(MAX_NESTING):
        if isinstance(manifest, Manifest):
            return manifest
        manifest = _child(resolved, manifest, choice, platform)
    if isinstance(manifest, Manifest):
        return manifest
    raise PolicyError(
        f"`{resolved.reference}` nests indexes more than {MAX_NESTING} deep",
        code="limit-passed",
        reference=str(resolved.reference),
        rule=f"at most {MAX_NESTING} indexes deep",
    )


def _child(resolved: Resolved, index: Index, choice: Choice, platform: Platform | None) -> Manifest | Index:
    reference = resolved.reference
    if not index.manifests:
        raise NotFoundError(
            f"`{reference}` is an empty index",
            code="platform-not-found",
            hint="try another version, and report it to the publisher",
            reference=str(reference),
        )
    # Build tools mark attestations with the platform `unknown/unknown`; they are not artifacts.
    children = [child for child in index.manifests if not child.is_attestation]
    if choice.artifact_types:
        typed = [child for child in children if child.artifact_type and matches(child.artifact_type, choice.artifact_types)]
        children = typed or children
    if platform is not None:
        fitting = [child for child in children if child.platform is not None and child.platform.matches(platform)]
        plain = [child for child in fitting if child.platform is not None and child.platform.variant is None]
        children = plain or fitting
        if not children:
            raise NotFoundError(
                f"`{reference}` has nothing for the platform `{platform}`",
                code="platform-not-found",
                hint=_platforms_hint(index),
                reference=str(reference),
            )
    if len(children) == 1:
        return _child_manifest(resolved, children[0])
    if not children or len(children) > _LOOKED_AT:
        raise _platform_needed(reference, index)
    looked_at = resolved.repository.session.each(lambda child: _child_manifest(resolved, child), children)
    artifacts = [child for child in looked_at if not (isinstance(child, Manifest) and kind_of(child) is IMAGE)]
    if choice.kinds:
        artifacts = [child for child in artifacts if not isinstance(child, Manifest) or kind_of(child) in choice.kinds]
    if len(artifacts) == 1:
        return artifacts[0]
    if not artifacts and (not choice.all_layers or platform is not None):
        return looked_at[0]  # only images: the caller refuses them with a specific error
    raise _platform_needed(reference, index)


def _child_manifest(resolved: Resolved, child: Descriptor) -> Manifest | Index:
    reference = resolved.reference
    found = resolved.repository.manifest(child.digest)
    if found.descriptor.size != child.size:
        raise IntegrityError(
            f"the manifest `{child.digest}` has {found.descriptor.size} bytes, but the index of `{reference}` says {child.size}",
            code="size-mismatch",
            reference=str(reference),
            expected=child.size,
            actual=found.descriptor.size,
        )
    return found


def _platforms_hint(index: Index) -> str:
    names = dict.fromkeys(str(child.platform) for child in index.manifests if child.platform and not child.is_attestation)
    return f"it has {', '.join(f'`{name}`' for name in names)}" if names else "its manifests name no platform"


def _platform_needed(reference: Reference, index: Index) -> InputError:
    return InputError(
        f"`{reference}` is an index of {counted(len(index.manifests), 'artifact')}",
        code="platform-needed",
        hint=f"choose one with `--platform`: {_platforms_hint(index)}",
        reference=str(reference),
        platforms=[str(child.platform) for child in index.manifests if child.platform],
    )


class Found(NamedTuple):
    """A resolved artifact with its selected payloads, before they are downloaded.

    Attributes:
        manifest: the artifact's manifest; for an index, the manifest that was chosen.
        payloads: the selected layers with their file names.
    """

    resolved: Resolved
    manifest: Manifest
    kind: Kind
    payloads: tuple[Payload, ...]
