"""What differs between two bundles, artifact by artifact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .check import check_bundle, refuse_broken
from .inventory import BundleItem, catalogue
from .opened import Opened


@dataclass(frozen=True, slots=True)
class Changed:
    """One artifact that is not the same in both.

    Attributes:
        old, new: None where it is not in that one.
        referrers: digests of what refers to it in one of the two only, behind `+` or `-`; for what has the same digest in both.
    """

    change: Literal["added", "removed", "changed", "referrers"]
    name: str
    old: BundleItem | None
    new: BundleItem | None
    referrers: tuple[str, ...] = ()


def differences(old: Opened, new: Opened, *, budget: Callable[[], None] = lambda: None) -> list[Changed]:
    """Everything in which two bundles, or other layouts, differ; in the order of the names.

    Bundles are checked whole first: a difference is what somebody approves, and it is no answer where what it rests on was changed.

    Args:
        budget: called now and then; it may raise to give up.

    Raises:
        IntegrityError: one of them is broken.
    """
    for one in (old, new):
        if one.is_bundle:
            refuse_broken(one, check_bundle(one, budget=budget))
    before, after = _items(old), _items(new)
    found: list[Changed] = []
    for name in sorted({*before, *after}):
        item, other = before.get(name), after.get(name)
        if item is None or other is None:
            found.append(Changed("added" if item is None else "removed", (item or other).name, item, other))  # type: ignore[union-attr]
        elif (item.reference, item.descriptor.digest) != (other.reference, other.descriptor.digest):
            found.append(Changed("changed", item.name, item, other))
        else:
            had, has = ({str(each.digest) for each in side.referrers} for side in (item, other))
            if had != has:
                found.append(
                    Changed(
                        "referrers",
                        item.name,
                        item,
                        other,
                        (*(f"-{digest}" for digest in sorted(had - has)), *(f"+{digest}" for digest in sorted(has - had))),
                    )
                )
    return found


def _items(found: Opened) -> dict[str, BundleItem]:
    """By the name in the lock; without a lock by repository and tag."""
    found.contents.load()
    items = catalogue(found.contents, found.lock)
    if found.lock is not None:
        return {item.name: item for item in items}
    return {f"{item.reference.repository}:{item.reference.tag or item.descriptor.digest}": item for item in items}
