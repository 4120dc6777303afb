"""Findings of `marfetch doctor`. Their texts contain no secrets, so they can be shared."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..text import shareable

Status = Literal["ok", "warning", "fault"]

CHECKS: Final[Mapping[str, str]] = {
    "endpoint": "the registry, and whether it is one of Microsoft's",
    "environment": "variables that change trusted certificates or the endpoint",
    "proxy": "whether a proxy is used, and whether it lets requests through",
    "dns": "the IPv4 and IPv6 addresses from DNS, and whether they are public",
    "connection": "TCP connections to every address",
    "ipv6": "whether only one of IPv4 and IPv6 works",
    "tls": "the certificate at every address",
    "interception": "who issued the certificate: Microsoft's authorities or an inspecting proxy",
    "registry": "`/v2/`, the first request of every client",
    "throttle": "whether a response was 429, and how long to wait",
    "block-page": "whether a response was a block page, and its reference ID for support",
    "clock": "this machine's clock compared with the registry's",
    "manifest": "a manifest, requested by its tag",
    "redirect": "where a blob request is redirected, and whether the target is a host of MAR",
    "data-host": "whether the data host sends content",
    "range": "whether the data host supports range requests, which are needed to resume downloads",
    "regions": "whether a firewall allows single regions instead of the wildcard",
    "china": "the other official registry",
    "cache": "the cache directory: permissions, free space, damage",
    "helm": "Helm and the two plugins",
}
"""The ids of the checks, with descriptions. Every finding has one of these ids."""

_WORST: Final = ("fault", "warning", "ok")


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. The constructor removes secrets from the texts.

    Attributes:
        id: the check, one of `CHECKS`.
        status: the severity.
        saw: what was observed.
        means: what the observation means; empty if the status is `ok`.
        do: what to do; empty if the status is `ok`.
    """

    id: str
    status: Status
    saw: str
    means: str = ""
    do: str = ""

    def __post_init__(self) -> None:
        assert self.id in CHECKS, self.id
        home = os.path.expanduser("~")  # noqa: PTH111 - returns `~` if the home directory is unknown
        for name in ("saw", "means", "do"):
            object.__setattr__(self, name, shareable(getattr(self, name), home))


def ok(name: str, saw: str) -> Finding:
    return Finding(name, "ok", saw)


def warning(name: str, saw: str, means: str, do: str) -> Finding:
    return Finding(name, "warning", saw, means, do)


def fault(name: str, saw: str, means: str, do: str) -> Finding:
    return Finding(name, "fault", saw, means, do)


def joined(name: str, found: Sequence[Finding]) -> Finding | None:
    """Merge all findings of one check into one, which has the worst status. Return None if the check has no findings.

    Args:
        name: the id of the check.
        found: the findings of all checks.
    """
    own = sorted(dict.fromkeys(one for one in found if one.id == name), key=lambda one: _WORST.index(one.status))
    if len(own) < 2:
        return own[0] if own else None
    saw, means, do = ("; ".join(dict.fromkeys(text for one in own if (text := getattr(one, part)))) for part in ("saw", "means", "do"))
    return Finding(name, own[0].status, saw, means, do)
