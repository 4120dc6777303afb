"""Findings, and the one way to make them: whatever they say can be shown to others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..text import shareable

Status = Literal["ok", "warning", "fault"]

CHECKS: Final[Mapping[str, str]] = {
    "endpoint": "which registry is asked, and whether it is one of Microsoft's",
    "environment": "variables that change what is trusted or asked",
    "proxy": "whether a proxy stands in between, and whether it lets through",
    "dns": "the addresses of both families, and answers that are not the public ones",
    "connection": "TCP to every address",
    "ipv6": "whether one family leads nowhere while the other works",
    "tls": "the certificate, for every address",
    "interception": "who issued the certificate: Microsoft's authorities, or something in between",
    "registry": "`/v2/`, where every client begins",
    "throttle": "whether an answer was 429, and for how long",
    "block-page": "whether an answer was a block page, with its reference",
    "clock": "this machine's clock against the registry's",
    "manifest": "a manifest, by its tag",
    "redirect": "where a blob is sent to, and whether that is a host of MAR",
    "data-host": "whether content comes from there",
    "range": "whether a part can be asked for, which a cut transfer needs",
    "regions": "whether a firewall opens single regions in place of the wildcard",
    "china": "the other one of the two official registries",
    "cache": "the cache directory: rights, room, damage",
    "helm": "Helm and the two plugins",
}
"""Every id of a finding, and what is looked at."""

_WORST: Final = ("fault", "warning", "ok")


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. Its texts are made shareable when it is made; there is no other way.

    Attributes:
        id: one of `CHECKS`.
        saw: what was seen.
        means: what that means; empty where all is well.
        do: what to do; empty where nothing is.
    """

    id: str
    status: Status
    saw: str
    means: str = ""
    do: str = ""

    def __post_init__(self) -> None:
        assert self.id in CHECKS, self.id
        home = os.path.expanduser("~")  # noqa: PTH111 - `~` itself where it is not known
        for name in ("saw", "means", "do"):
            object.__setattr__(self, name, shareable(getattr(self, name), home))


def ok(name: str, saw: str) -> Finding:
    """All is well."""
    return Finding(name, "ok", saw)


def warning(name: str, saw: str, means: str, do: str) -> Finding:
    """It works, but not for everybody or not for long."""
    return Finding(name, "warning", saw, means, do)


def fault(name: str, saw: str, means: str, do: str) -> Finding:
    """It does not work."""
    return Finding(name, "fault", saw, means, do)


def joined(name: str, found: Sequence[Finding]) -> Finding | None:
    """All findings about one thing as one, the worst first: its status is theirs. None where there is none."""
    own = sorted(dict.fromkeys(one for one in found if one.id == name), key=lambda one: _WORST.index(one.status))
    if len(own) < 2:
        return own[0] if own else None
    saw, means, do = ("; ".join(dict.fromkeys(text for one in own if (text := getattr(one, part)))) for part in ("saw", "means", "do"))
    return Finding(name, own[0].status, saw, means, do)
