"""Decide for each place which version is newer, and what to write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeAlias

from ..artifact.payload import Choice
from ..client.age import HeldBack
from ..client.fitting import looked_at
from ..client.session import Repository
from ..constraint import Constraint, TaggedVersion, chart_version, exact_version, read_version, sort_versions
from ..errors import Error
from ..oci import Digest
from ..project.forms.forms import Place, Span
from ..reference import Reference
from ..verify.gate import cool_down
from .ranges import lowest, moved, raised

Status: TypeAlias = Literal["bumped", "current", "range-allows", "held-back", "unreadable"]

_SHOWN: Final = 3
"""The maximum number of versions that a reason names."""


class UpgradePolicy(NamedTuple):
    """Which newer versions to take, and what to write.

    Attributes:
        level: the largest step: `patch`, `minor` or `major`.
        devel: include prereleases.
        ranges: move the lower bounds of ranges that allow the newest version.
        pin: add digests where the kind of file supports them.
    """

    level: str = "major"
    devel: bool = False
    ranges: bool = False
    pin: bool = False


class Edit(NamedTuple):
    """A replacement in the text of a file, from index `start` to `end`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to a place.

    Attributes:
        old: the version as written, if any.
        new: the version after the change; None if the old version could not be read.
        reason: why nothing newer is written, or a remark.
        edits: the replacements in the file.
        before, after: for an upgrade, the references of the old and the new version.
    """

    status: Status
    old: str | None = None
    new: str | None = None
    reason: str | None = None
    edits: tuple[Edit, ...] = ()
    before: Reference | None = None
    after: Reference | None = None


class Picked(NamedTuple):
    """A version that is newer, with the digest of its manifest."""

    version: TaggedVersion
    digest: Digest


class Chooser:
    """Chooses versions of one repository. Each manifest is requested at most once.

    Args:
        repository: the repository, without tag and digest.
        min_age: the minimum age of newer versions; None for that of the `marfetch.yaml`, if it has one.
    """

    def __init__(self, repository: Repository, policy: UpgradePolicy, min_age: str | None = None) -> None:
        self._repository, self._policy = repository, policy
        self._min_age, self._cool_down = min_age, cool_down(min_age)
        self._versions = sort_versions(repository.tags())
        self._picks: list[_Pick] = []
        self._digests: dict[str, Digest] = {}

    def decide(self, place: Place) -> Decision:
        """Decide what happens to a place of this repository whose version is not `unreadable`.

        Raises:
            Error: the registry failed.
        """
        version = place.version
        self._cool_down = cool_down(self._min_age or place.context.get("min-age"))
        if version is None:
            return Decision("range-allows", place.range, place.range)
        base = read_version(version.text) if place.is_tag else read_version(exact_version(version.text) or "")
        if base is not None:
            return self._exact(place, version, base)
        return self._range(place, version)

    # -- exact versions and tags

    def _exact(self, place: Place, version: Span, base: TaggedVersion) -> Decision:
        old = version.text
        choice = self._newer(base.key[:3], [one for one in self._versions if one.key > base.key])
        if choice.picked is None:
            current = Decision(choice.status, old, old, choice.reason)
            return self._pinned(place, version, base, current) if self._policy.pin else current
        new = choice.picked.version.tag if place.is_tag else _in_place_of(old, chart_version(choice.picked.version))
        return self._bumped(place, version, new, choice, before=self._tag(base))

    def _pinned(self, place: Place, version: Span, base: TaggedVersion, current: Decision) -> Decision:
        if place.digest is not None or not place.takes_digest or place.reference.digest is not None:
            return current
        tag = self._tag(base)
        if tag is None:
            return replace(current, reason="cannot be pinned, because the registry does not list its tag")
        digest = self._digest(tag)
        text = f"{version.text}@{digest}"
        return replace(current, status="bumped", new=text, edits=(Edit(version.start, version.end, text),))

    def _tag(self, version: TaggedVersion) -> str | None:
        """Return the tag of a version; None if the registry no longer lists it."""
        same = [one.tag for one in self._versions if one.key == version.key]
        return version.tag.replace("+", "_") if version.tag.replace("+", "_") in same else next(iter(same), None)

    # -- ranges

    def _range(self, place: Place, version: Span) -> Decision:
        old = version.text
        constraint = Constraint.parse(old)
        allowed = constraint.select(self._versions)
        base = allowed[0].key[:3] if allowed else lowest(old)
        choice = self._newer(base, [one for one in self._versions if not allowed or one.key > allowed[0].key])
        newest = allowed[0] if allowed else None
        if choice.picked is None and (newest is None or choice.status != "current" or choice.reason is not None):
            return Decision(choice.status, old, old, choice.reason)
        before = newest.tag if newest is not None else None
        if choice.picked is not None:
            text = moved(old, choice.picked.version)
            if text is None:
                reason = f"the range does not allow `{choice.picked.version.version}`, and cannot be moved without changing its form"
                return Decision("unreadable", old, None, reason)
            return self._bumped(place, version, text, choice, before=before)
        if self._policy.ranges and raised(old, allowed[0]) != old:
            picked, why = self._pick(tuple(allowed))
            if picked is not None and (new := raised(old, picked.version)) != old:
                return self._bumped(place, version, new, _Choice(picked, reason=why), before=before)
        return Decision("range-allows", old, old)

    # -- exact versions and ranges

    def _bumped(self, place: Place, version: Span, new: str, choice: _Choice, *, before: str | None) -> Decision:
        picked = choice.picked
        assert picked is not None, "only a newer version is written"
        text = new
        edits = []
        if place.digest is not None:
            edits.append(Edit(place.digest.start, place.digest.end, str(picked.digest)))
        elif self._policy.pin and place.takes_digest and (place.is_tag or exact_version(new) is not None):
            text = f"{new}@{picked.digest}"
        if place.tag is not None:
            edits.append(Edit(place.tag.start, place.tag.end, picked.version.tag))
        edits.append(Edit(version.start, version.end, text))
        bound = self._repository.reference
        return Decision(
            "bumped",
            version.text,
            text,
            choice.reason,
            tuple(edits),
            replace(bound, tag=before) if before is not None else None,
            replace(bound, tag=picked.version.tag, digest=picked.digest),
        )

    def _newer(self, base: tuple[int, ...], newer: Sequence[TaggedVersion]) -> _Choice:
        """Choose among newer versions, newest first: within the level, old enough, and with a manifest."""
        released = [one for one in newer if self._policy.devel or not one.is_prerelease]
        within = [one for one in released if _is_within(one, base, self._policy.level)]
        beyond = f"`{released[0].version}` is beyond `--level {self._policy.level}`" if released and released[:1] != within[:1] else None
        if not within:
            return _Choice(None, "current", beyond)
        picked, why = self._pick(tuple(within))
        if picked is None and why is not None:
            return _Choice(None, "held-back", why)
        if picked is None:
            return _Choice(None, "current", f"`{within[0].version}` is listed but has no manifest")
        return _Choice(picked, "bumped", why if picked.version != within[0] else beyond)

    def _pick(self, candidates: tuple[TaggedVersion, ...]) -> tuple[Picked | None, str | None]:
        """Return the newest version that is not a container image and has a manifest, and why newer ones are held back.

        If a repository has only images, return the newest image.
        """
        age = self._cool_down.text if self._cool_down is not None else None
        for one in self._picks:
            if one.age == age and candidates[: one.size] == one.candidates[: one.size]:
                return one.picked, one.why
        found: Picked | None = None
        held: list[HeldBack] = []
        size: int | None = None
        for number, look in enumerate(looked_at(self._repository, candidates, Choice(), is_open=True, cool_down=self._cool_down), 1):
            if look.is_held_back(held) or look.found is None or (found is not None and not look.fits):
                continue
            found = Picked(look.version, look.found.descriptor.digest)
            self._digests[look.version.tag] = found.digest
            if look.fits:
                size = number
                break
        why = ", ".join(f"`{one.version.version}` is {one.reason}" for one in held[:_SHOWN]) or None
        self._picks.append(_Pick(age, candidates, size, found, why))
        return found, why

    def _digest(self, tag: str) -> Digest:
        if tag not in self._digests:
            self._digests[tag] = self._repository.at(tag=tag).manifest().descriptor.digest
        return self._digests[tag]


class _Pick(NamedTuple):
    """A result of `Chooser._pick`, with the number of first candidates that decided it (None: all of them)."""

    age: str | None
    candidates: tuple[TaggedVersion, ...]
    size: int | None
    picked: Picked | None
    why: str | None


class _Choice(NamedTuple):
    picked: Picked | None
    status: Status = "bumped"
    reason: str | None = None


def unreadable(place: Place) -> Decision | None:
    """Return the decision for a place whose version cannot be read or replaced; None for any other place. It needs no request."""
    text = place.version.text if place.version is not None else None
    reason = place.problem or place.fixed
    if reason is None and place.version is None and place.range is None:
        reason = "only a digest is given" if place.reference.digest is not None else "the tag cannot be located in the file"
    if reason is None and place.version is None and place.range != "*":
        reason = "there is no version"
    spans = [span for span in (place.version, place.digest, place.tag) if span is not None]
    if reason is None and any(not span.end for span in spans):
        reason = "the version is a YAML block or has escapes, so marfetch cannot replace it"
    if reason is None and place.version is not None:
        reason = _no_version(place, place.version.text)
    return Decision("unreadable", text, None, reason) if reason is not None else None


def _no_version(place: Place, text: str) -> str | None:
    if place.is_tag:
        return None if read_version(text) is not None else f"the tag `{text[:80]}` is not a version"
    try:
        Constraint.parse(text)
    except Error:
        return f"`{text[:80]}` is not a version range"
    return None


def _is_within(version: TaggedVersion, base: tuple[int, ...], level: str) -> bool:
    same = {"major": 0, "minor": 1, "patch": 2}[level]
    return version.key[:same] == base[:same]


def _in_place_of(old: str, version: str) -> str:
    """Return the new version with the characters around the old one, such as the `=` in `=1.2.3`."""
    return old.replace(exact_version(old) or old, version, 1)
