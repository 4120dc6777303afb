"""Errors for references and ranges that lead to no manifest. Each names the versions that come closest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ..constraint import Constraint, TaggedVersion, read_version, sort_versions
from ..errors import Error, NotFoundError
from ..reference import Reference
from ..text import counted
from .age import CoolDown, HeldBack, held_back_json
from .session import Repository, offline_error

DANGLING_TRIES: Final = 20
"""Maximum number of versions to try when their manifests are missing."""


def nothing_in_range(
    wanted: str | None, constraint: Constraint, bound: Reference, tags: Sequence[str], versions: Sequence[TaggedVersion], *, offline: bool
) -> Error:
    """Return the error for a range that has none of the versions of a repository.

    Args:
        wanted: the range as the user wrote it; None if there was none.
    """
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
    if wanted is None:
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
        f"no version of `{repository}` is in the range `{wanted}`; the {newest_kind} is `{best.version}`",
        code="version-not-found",
        hint=hint,
        reference=repository,
        range=wanted,
        nearest=[best.tag],
    )


def dangling(error: NotFoundError, tagged: Reference, best: TaggedVersion | None, *, in_range: bool = False) -> NotFoundError:
    """Return the error for a listed tag without a manifest. The hint suggests the next best version.

    Args:
        in_range: whether the next best version is in the range, so that `--skip-missing` would use it.
    """
    hint = "the version is still being published, or was withdrawn; try again later"
    if best is not None:
        hint = f"to use `{best.version}` instead, add `--skip-missing`" if in_range else f"{hint}, or use `{best.version}`"
    return NotFoundError(
        f"the tag `{tagged.tag}` of `{tagged.full_repository}` is listed but has no manifest"
        + (f"; the next best version is `{best.version}`" if best else ""),
        code="dangling-tag",
        hint=hint,
        **{**error.context, "reference": str(tagged), "nearest": [best.tag] if best else []},
    )


def gone(
    error: NotFoundError, repository: Repository, version: TaggedVersion, following: TaggedVersion | None, tags: Sequence[str]
) -> NotFoundError:
    """Return the error for a version in the range without a manifest.

    Args:
        following: the next version in the range.
    """
    tagged = repository.at(tag=version.tag).reference
    missing = dangling(error, tagged, following or next_best(tags, version.tag), in_range=following is not None)
    missing.__cause__ = error
    return missing


def all_gone(bound: Reference) -> NotFoundError:
    """Return the error for a range whose newest versions have no manifest."""
    return NotFoundError(
        f"the {DANGLING_TRIES} newest versions of `{bound.full_repository}` in the range have no manifest",
        code="dangling-tag",
        hint="name a version with `--version`",
        reference=str(bound),
    )


def next_best(tags: Iterable[str], missing: str) -> TaggedVersion | None:
    """Return a replacement for a version without a manifest: the next lower version, or else the newest. Prefer released versions."""
    versions = [version for version in sort_versions(tags) if version.tag != missing]
    versions = [version for version in versions if not version.is_prerelease] or versions
    wanted = read_version(missing)
    lower = [version for version in versions if wanted is not None and version.key < wanted.key]
    return next(iter(lower or versions), None)


_NAMED: Final = 10
"""Maximum number of versions that the message of one error names."""


def too_young(bound: Reference, cool_down: CoolDown | None, held: Sequence[HeldBack], *, others: int) -> NotFoundError:
    """Return the error for a range in which no version is old enough.

    Args:
        others: number of versions that were not checked.
    """
    assert cool_down is not None, "the last version without a manifest is an error"
    named = [f"`{one.version.version}` is held back: {one.reason}" for one in held[:_NAMED]]
    named += [f"so are {counted(len(held) - _NAMED, 'more version')}"] if len(held) > _NAMED else []
    named += [f"{counted(others, 'older version')} not checked"] if others else []
    error = NotFoundError(
        f"no version of `{bound.full_repository}` in the range is known to be {cool_down.text} old: {'; '.join(named)}",
        code="held-back",
        reference=bound.full_repository,
    )
    error.context |= {"minAge": cool_down.text, "heldBack": [held_back_json(one) for one in held]}
    return error
