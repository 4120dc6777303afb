"""Resolve tags, digests and version ranges to manifests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from ..artifact.kinds import IMAGE, Kind, kind_of, matches
from ..artifact.payload import Choice, Payload
from ..constraint import ANY, ANY_OR_PRERELEASE, Constraint, TaggedVersion, distinct, exact_version, read_version, sort_versions, tag_of
from ..errors import Error, InputError, IntegrityError, NotFoundError, PolicyError, RemoteError
from ..oci import Descriptor, Index, Manifest, Platform
from ..reference import Reference
from ..text import counted
from .session import Repository, Session, offline_error

if TYPE_CHECKING:
    from .fitting import Look

_DANGLING_TRIES: Final = 20
"""Maximum number of versions to try when their manifests are missing."""


class Wanted(NamedTuple):
    """One artifact to resolve.

    Attributes:
        version: a range in Helm's syntax; allowed only if the reference has neither tag nor digest.
        devel: include prereleases.
        choice: filters for a range: pick the newest version that matches, if there is one. By default, container images do not match.
    """

    reference: Reference
    version: str | None = None
    devel: bool = False
    choice: Choice = Choice()


class Resolved(NamedTuple):
    """A resolved artifact.

    Attributes:
        reference: the reference with host and digest, and with the tag if the artifact was found by a tag.
        manifest: a manifest or an index.
        repository: the repository that has the artifact's content.
        version: the version of the tag, or None.
        newer: the newest released version, if it is newer than `version` and known without another request.
    """

    reference: Reference
    manifest: Manifest | Index
    repository: Repository
    version: TaggedVersion | None = None
    newer: TaggedVersion | None = None


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
        return resolved_to(repository, manifest)
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
                return resolved_to(tagged, manifest)
    return _newest(wanted, constraint, repository, missing, skip_missing=skip_missing)


def _fits(tagged: Repository, manifest: Manifest | Index, choice: Choice) -> bool:
    from .fitting import fits  # late: needed only for filters

    return fits(tagged, manifest, choice)


def resolved_to(repository: Repository, manifest: Manifest | Index, newer: TaggedVersion | None = None) -> Resolved:
    """Build the result for the manifest that a repository's reference names."""
    reference = repository.reference
    version = read_version(reference.tag) if reference.tag else None
    return Resolved(reference.pinned(manifest.descriptor.digest), manifest, repository, version, newer)


def _newest(wanted: Wanted, constraint: Constraint, repository: Repository, missing: set[str], *, skip_missing: bool) -> Resolved:
    from .fitting import looked_at  # late: needed only for ranges

    client, bound = repository.session, repository.reference
    tags = repository.tags()
    versions = sort_versions(tags)
    candidates = constraint.select(versions, prereleases=wanted.devel)
    if not candidates:
        raise _nothing_in_range(wanted, constraint, bound, tags, versions, offline=client.options.offline)
    skipped: list[Look] = []
    gone: list[tuple[TaggedVersion, Error]] = []
    failed: Error | None = None
    picked: Look | None = None
    for number, look in enumerate(looked_at(repository, candidates, wanted.choice, missing=missing)):
        error = look.error
        if isinstance(error, NotFoundError):
            following = candidates[number + 1] if number + 1 < len(candidates) else None
            error = _gone(error, repository, look.version, following, tags)
            gone.append((look.version, error))
            if skip_missing and following is not None:
                if len(gone) < _DANGLING_TRIES:
                    continue
                error = _all_gone(bound)
        # If all versions are images, the newest image is picked below, and the errors of older versions do not matter.
        failed = failed or error
        picked = look if look.fits else None
        if picked is not None or (failed is not None and not skipped):
            break
        skipped += [look] if look.found is not None else []
    if picked is None and skipped:
        picked, failed = skipped[0], None
    if failed is not None:
        raise failed
    assert picked is not None, "if no version has a manifest, the last one has set `failed`"
    assert picked.found is not None, "a version without a manifest never fits"
    for version, error in gone:
        if version.key >= picked.version.key:
            client.progress.warn(f"{error.message}; using `{picked.version.version}`")
    if picked.fits and skipped:
        reason = "is a container image" if wanted.choice.is_any else "does not match the filters"
        client.progress.note(f"`{skipped[0].version.tag}` of `{bound.full_repository}` {reason}; using `{picked.version.tag}`")
    newest = next((version for version in versions if not version.is_prerelease), None)
    is_newer = newest is not None and newest.key > picked.version.key and not skipped
    return resolved_to(repository.at(tag=picked.version.tag), picked.found, newest if is_newer else None)


def _gone(
    error: NotFoundError, repository: Repository, version: TaggedVersion, following: TaggedVersion | None, tags: Sequence[str]
) -> NotFoundError:
    tagged = repository.at(tag=version.tag).reference
    dangling = _dangling(error, tagged, following or next_best(tags, version.tag), in_range=following is not None)
    dangling.__cause__ = error
    return dangling


def _all_gone(bound: Reference) -> NotFoundError:
    return NotFoundError(
        f"the {_DANGLING_TRIES} newest versions of `{bound.full_repository}` in the range have no manifest",
        code="dangling-tag",
        hint="name a version with `--version`",
        reference=str(bound),
    )


def _with_neighbours(error: NotFoundError, repository: Repository) -> NotFoundError:
    """Add similar tags to the error about a missing tag. This costs one more request."""
    from .catalog import nearest  # late: needed only to explain an error

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
            return _dangling(error, bound, next_best(tags, bound.tag))
        near = nearest(tags, bound.tag, limit=3)
        newest = ANY.newest(tags) or next(iter(tags), None)
        error.context["nearest"] = near or ([newest] if newest else [])
        if newest:
            shown = " and ".join(f"`{tag}`" for tag in dict.fromkeys([*near, newest]))
            error.hint = f"available tags include {shown}; to list all, run: marfetch versions {bound.full_repository}"
    return error


def next_best(tags: Iterable[str], missing: str) -> TaggedVersion | None:
    """Return a replacement for a version without a manifest: the next lower version, or else the newest. Prefer released versions."""
    versions = [version for version in sort_versions(tags) if version.tag != missing]
    versions = [version for version in versions if not version.is_prerelease] or versions
    gone = read_version(missing)
    lower = [version for version in versions if gone is not None and version.key < gone.key]
    return next(iter(lower or versions), None)


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


def _nothing_in_range(
    wanted: Wanted, constraint: Constraint, bound: Reference, tags: Sequence[str], versions: Sequence[TaggedVersion], *, offline: bool
) -> Error:
    repository = bound.full_repository
    if offline:
        return offline_error(bound)
    released = next((version for version in versions if not version.is_prerelease), None)
    if not versions:
        latest = "`:latest`" if "latest" in tags else ", ".join(f"`:{tag}`" for tag in tags[:3])
        return NotFoundError(
            f"`{repository}` has {counted(len(tags), 'tag')}, but none that is a version",
            code="no-versions",
            hint=f"name a tag, such as {latest}" if latest else "the repository is empty",
            reference=repository,
            nearest=list(tags[:3]),
        )
    if wanted.version is None:
        newest = versions[0]
        return NotFoundError(
            f"`{repository}` has only prereleases; the newest is `{newest.version}`",
            code="version-not-found",
            hint="to include prereleases, add `--devel`",
            reference=repository,
            nearest=[newest.tag],
        )
    best = released or versions[0]
    newest_kind = "newest released version" if released else "newest version, a prerelease,"
    hint = f"marfetch versions {repository}"
    if allowed := constraint.select(versions, prereleases=True):
        hint = f"the range has only prereleases; to include them, add `--devel`, or name one, such as `{allowed[0].version}`"
    # `6.0.0-rc.1` is lower than `6.0.0`, so the range `6.0.*` excludes it even with `--devel`.
    elif below := [one for one in versions if one.is_prerelease and constraint.allows(str(one.version.finalize_version()))]:
        hint = f"there are only prereleases, such as `{below[0].version}`; name it with `--version`, or use `--devel` without a range"
    return NotFoundError(
        f"no version of `{repository}` is in the range `{wanted.version}`; the {newest_kind} is `{best.version}`",
        code="version-not-found",
        hint=hint,
        reference=repository,
        range=wanted.version,
        nearest=[best.tag],
    )


def _dangling(error: NotFoundError, tagged: Reference, best: TaggedVersion | None, *, in_range: bool = False) -> NotFoundError:
    """Return the error for a listed tag without a manifest. The hint suggests the next best version.

    Args:
        in_range: whether the next best version is in the range, so that `--skip-missing` would use it.
    """
    hint = "it is being published or was withdrawn; try again later"
    if best is not None:
        hint = f"to use `{best.version}` instead, add `--skip-missing`" if in_range else f"{hint}, or use `{best.version}`"
    return NotFoundError(
        f"the tag `{tagged.tag}` of `{tagged.full_repository}` is listed but has no manifest"
        + (f"; the next best version is `{best.version}`" if best else ""),
        code="dangling-tag",
        hint=hint,
        **{**error.context, "reference": str(tagged), "nearest": [best.tag] if best else []},
    )


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
