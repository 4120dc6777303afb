"""Interim responses (1xx) are skipped, and never taken for the final response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from marfetch.client.session import Session
from marfetch.errors import IntegrityError, PolicyError
from marfetch.reference import Host, Reference
from marfetch.remote import limits

from ..world.content import ALB, source_of
from ..world.registry import Registry

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nX: y\r\n\r\n"

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.mark.parametrize(
    "before",
    [
        HINT,
        b"HTTP/1.1 102 Processing\r\n\r\n" + HINT,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 199 \r\n\r\n",
        HINT * limits.MAX_INTERIM,
    ],
    ids=["early hints", "processing and hints", "continue", "an unknown one", "as many as there may be"],
)
def test_an_answer_is_the_answer_to_its_own_request(client: Callable[..., Session], mar: Registry, before: bytes) -> None:
    mar.on("any").sends_before(before)
    with client(jobs=1) as one:
        bound, source = source_of(one, Reference(ALB, None, "1.7.12"))
        first, second = source.manifest(bound), source.tags(bound)
    assert first is not None
    known = mar.layout.known(replace(bound, host=Host("mar.test")))
    assert known is not None
    assert first.descriptor.digest == known.digest
    assert "1.7.12" in second
    assert mar.kinds() == ["manifest", "tags"]  # each once


def test_more_than_a_few_are_refused(client: Callable[..., Session], mar: Registry) -> None:
    mar.on("manifest").sends_before(HINT * (limits.MAX_INTERIM + 1))
    bound, source = source_of(client(), Reference(ALB, None, "1.7.12"))
    with pytest.raises(PolicyError, match=f"more than {limits.MAX_INTERIM} responses") as caught:
        source.manifest(bound)
    assert caught.value.code == "limit-passed"
    assert len(mar.asked) == 1
    assert source.tags(bound)  # the next request uses another connection


def test_another_protocol_is_no_answer_and_the_connection_is_not_used_again(client: Callable[..., Session], mar: Registry) -> None:
    mar.on("manifest").sends_before(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    bound, source = source_of(client(jobs=1), Reference(ALB, None, "1.7.12"))
    with pytest.raises(IntegrityError, match=r"another protocol \(101\)") as caught:
        source.manifest(bound)
    assert caught.value.code == "malformed"
    assert caught.value.exit_code == 5
    assert "1.7.12" in source.tags(bound)
    assert mar.kinds() == ["manifest", "tags"]
