"""Run the live check against the test registry: its answers are right, and it records no secrets."""

from __future__ import annotations

import json

from marfetch.text import hidden

from ..world.content import ALB
from ..world.registry import Registry
from .transcript import Transcript


def test_the_transcript_answers_the_questions_without_secrets(mar: Registry) -> None:
    transcript = Transcript(f"http://{mar.host}")
    transcript.lists(ALB)
    transcript.catalog()
    transcript.artifact(ALB, "1.7.12")
    transcript.lag(f"http://{mar.host}", ALB)
    found = transcript.findings
    assert found["tags in one answer"] >= 9
    assert found["referrers"]["api"] == 200
    assert found["data host"] == "127.0.0.1"
    assert found["minutes that a data address is valid"] > 0
    assert found["tags that 127.0.0.1 lacks"] == []
    assert found["names in one page of the catalog"] > 5
    signed = [one.target for one in mar.asked if "sig=" in one.target]
    assert "sig" in found["names in the query of a data address"]
    assert "sig=" not in transcript.document()
    assert not any(one in transcript.document() for one in signed)


def test_a_throttle_is_written_down(mar: Registry) -> None:
    mar.on("catalog").answers(429, retry_after="7")
    transcript = Transcript(f"http://{mar.host}")
    transcript.catalog()
    assert transcript.findings == {"retry-after on 429": "7"}
    assert json.loads(transcript.document())["steps"][0]["status"] == 429


def test_queries_are_removed_from_urls() -> None:
    assert hidden("https://a.example/x?sig=abc&se=1 y") == "https://a.example/x?… y"
