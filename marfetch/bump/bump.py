"""Compare the versions in the files of a project with the registry, and write newer ones in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

from ..client.session import Repository, Session
from ..destination.rewriting import Rewrite, rewrite
from ..errors import Error
from ..files import storage_error
from ..project.forms.forms import Registries
from ..reference import Reference
from .decide import Chooser, Decision, Edit, UpgradePolicy, unreadable
from .differences import Upgrade, upgrades
from .results import BumpPlan, Connect, Result
from .survey import FoundPlace, SourceFile, Survey, repository_of, survey

__all__ = ("BumpPlan", "Result", "Upgrade", "changes", "edited", "plan", "upgrades", "write")


Choose = Callable[[Repository], Chooser]


def plan(
    paths: Sequence[Path],
    registries: Registries,
    connect: Connect,
    *,
    level: str = "major",
    devel: bool = False,
    ranges: bool = False,
    pin: bool = False,
    only: Sequence[str] = (),
    min_age: str | None = None,
    check: Callable[[], None] = lambda: None,
) -> BumpPlan:
    """Find the places of a project, and decide what happens to each. Nothing is written.

    Args:
        level, devel, ranges, pin: see `UpgradePolicy`.
        min_age: the minimum age of newer versions, such as `7d`; None for no minimum.
        only: globs for the repositories to look at, with or without their host; empty for all.
        check: called repeatedly; it raises when the timeout has passed.

    Raises:
        StorageError: a file cannot be read.
        Error: the registry is refused. An error about one repository is stored in its results.
    """
    policy = UpgradePolicy(level, devel, ranges, pin)
    found = survey(paths, registries, check)
    places = [one for one in found.places if _is_chosen(repository_of(one.place), only)]
    unread = [
        Result(one.file, one.line, one.form, None, Decision("unreadable", None, None, one.reason))
        for one in found.unread
        if _is_chosen(one.reference.partition("://")[2] or one.reference, only)
    ]
    results = _without_conflicts([*_decided(places, lambda one: Chooser(one, policy, min_age), connect), *unread])
    order = {file.real: number for number, file in enumerate(_files_of(found))}
    results.sort(key=lambda one: (order[one.file.real], one.line))
    return BumpPlan(tuple(results), found.notes)


def _files_of(found: Survey) -> Sequence[SourceFile]:
    files = [*(one.file for one in found.places), *(one.file for one in found.unread)]
    return list({file.real: file for file in files}.values())


def _is_chosen(repository: str, only: Sequence[str]) -> bool:
    names = (repository, repository.partition("/")[2])
    return not only or any(fnmatchcase(name, glob) for name in names for glob in only)


def _decided(places: Sequence[FoundPlace], choose: Choose, connect: Connect) -> list[Result]:
    groups: dict[str | None, dict[Reference, list[FoundPlace]]] = {}
    for one in places:
        repository = replace(one.place.reference, tag=None, digest=None)
        groups.setdefault(one.place.context.get("endpoint"), {}).setdefault(repository, []).append(one)
    results: list[Result] = []
    for endpoint, repositories in groups.items():
        client = connect(endpoint)
        for found in client.each(
            lambda item, client=client: _of_repository(client, item[0], item[1], choose),  # type: ignore[misc]
            list(repositories.items()),
            label="checking",
            unit="repositories",
        ):
            results += found
    return results


def _of_repository(client: Session, reference: Reference, places: Sequence[FoundPlace], choose: Choose) -> list[Result]:
    name = repository_of(places[0].place)
    error: Error | None = None
    chooser: Chooser | None = None
    results = []
    for one in places:
        decision = unreadable(one.place)
        try:
            repository = client.repository(reference)
            name = repository.reference.full_repository
            if decision is None and error is None:
                chooser = chooser or choose(repository)
                decision = chooser.decide(one.place)
        except Error as failed:
            error = failed
        except OSError as failed:
            error = storage_error(failed, str(failed.filename or name))
        endpoint, failure = one.place.context.get("endpoint"), error if decision is None else None
        decided = decision or Decision("unreadable")
        results.append(Result(one.file, one.place.line, one.place.form, name, decided, one.place, endpoint, failure))
    return results


def _without_conflicts(results: Sequence[Result]) -> list[Result]:
    """Skip places that share one version text, such as through a YAML anchor, if they need different new versions."""
    wanted: dict[tuple[Path, int, int], set[str]] = {}
    for one in results:
        for edit in one.decision.edits:
            wanted.setdefault((one.file.real, edit.start, edit.end), set()).add(edit.text)
    shared: dict[tuple[Path, int, int], int] = {}
    for one in results:
        span = one.place.version if one.place is not None else None
        if span is not None and span.end:
            key = (one.file.real, span.start, span.end)
            shared[key] = shared.get(key, 0) | (1 if one.decision.edits else 2)

    def checked(one: Result) -> Result:
        keys = [(one.file.real, edit.start, edit.end) for edit in one.decision.edits]
        if any(len(wanted[key]) > 1 or shared.get(key) == 3 for key in keys):
            reason = "other artifacts share this version text, but need a different new version"
            return replace(one, decision=Decision("unreadable", one.decision.old, None, reason))
        return one

    return [checked(one) for one in results]


def changes(plan: BumpPlan) -> list[Rewrite]:
    """Return the new content of the files that change. Only versions and digests differ."""
    edits: dict[Path, set[Edit]] = {}
    files: Mapping[Path, SourceFile] = {one.file.real: one.file for one in plan.results}
    for one in plan.bumped:
        edits.setdefault(one.file.real, set()).update(one.decision.edits)
    return [Rewrite(real, files[real].data, files[real].bytes_of(edited(files[real].text, found))) for real, found in edits.items()]


def edited(text: str, edits: set[Edit]) -> str:
    """Return a text with all replacements, which do not overlap."""
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def write(plan: BumpPlan) -> list[Path]:
    """Write the newer versions.

    Returns:
        The paths of the written files, as shown to the user.

    Raises:
        StorageError: a file cannot be written. The error names the files that were written before.
    """
    shown = {one.file.real: one.file.path for one in plan.results}
    written: list[Path] = []
    try:
        rewrite(changes(plan), written)
    except Error as error:
        error.context["written"] = [str(shown[path]) for path in written]
        raise
    return [shown[path] for path in written]
