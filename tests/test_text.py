"""Secrets in texts are hidden in every encoding, even if the response of a server repeats them."""

from __future__ import annotations

import pytest

from marfetch.endpoint import Address
from marfetch.text import hidden, sent_values, shareable

SENT = sent_values(
    Address.parse("https://data.test//v2/x?se=2030-01-01T00%3a00&sig=ab%2Bc%2fdefg%3d&sp=r").target,
    {"Authorization": "Basic bWU6cGE1NXdvcmQ="},
)


@pytest.mark.parametrize(
    "secret",
    [
        "ab%2Bc%2fdefg%3d",
        "ab%2bc%2Fdefg%3D",
        "ab+c/defg=",
        "ab%252Bc%252fdefg%253d",
        "2030-01-01T00:00",
        "bWU6cGE1NXdvcmQ=",
        "me:pa55word",
        "pa55word",
    ],
)
def test_a_value_that_was_sent_is_hidden_in_every_form(secret: str) -> None:
    assert hidden(f"before {secret} after", SENT) == "before … after"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no /a/b?sig=x&amp;se=y now", "no /a/b?… now"),
        ('{"path":"/a?b=c"}', '{"path":"/a?…"}'),
        ("see https://data.test/a%3Fsig%3Dx.", "see https://data.test/a%3F…"),
        ("what? nothing", "what? nothing"),
        ("Basic authentication is required", "Basic authentication is required"),
        ("r", "r"),
    ],
)
def test_of_an_address_nothing_behind_the_question_mark_is_shown_and_other_words_stay(said: str, shown: str) -> None:
    assert hidden(said, SENT) == shown


def test_credentials_in_no_known_form_are_hidden_as_they_are() -> None:
    address = Address.parse("https://own.test/v2/")
    assert hidden("x %%% y", sent_values(address.target, {"Authorization": "Basic %%%"})) == "x … y"
    assert hidden("x abc y", sent_values(address.target, {"Authorization": "Bearer abc"})) == "x … y"
    assert sent_values(address.target, {}) == ()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("see https://me:pass@own.test/x", "see https://own.test/x"),
        ("Bearer abc123%2B is expired", "Bearer … is expired"),
    ],
)
def test_a_server_may_name_credentials_that_were_not_sent(said: str, shown: str) -> None:
    assert hidden(said) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("proxy `http://me:pass@10.0.0.1:3128`", "proxy `http://10.0.0.1:3128`"),
        ("to `https://eastus.data.mcr.microsoft.com/a//b?se=1&sig=x%2B`", "to `https://eastus.data.mcr.microsoft.com/a//b`"),
        ("proxy `http://me:a/bSECRET@10.0.0.1:3128`", "proxy `http://10.0.0.1:3128`"),
        ("`https://h/aks/foo@sha256:abc`", "`https://h/aks/foo@sha256:abc`"),
        ("sig=abc%2Bdef& rest", "sig=…& rest"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
    ],
)
def test_texts_can_be_shown_to_others(text: str, shown: str) -> None:
    assert shareable(text) == shown


def test_the_home_directory_is_not_shown() -> None:
    assert shareable("`/home/me/.cache/marfetch`", "/home/me") == "`~/.cache/marfetch`"
    assert shareable("`/a`", "/") == "`/a`"


@pytest.mark.parametrize("text", ["/" * 500_000, "//a" * 200_000, "sig:" * 20_000, "@" * 500_000, "//@sha256:" * 50_000])
def test_a_text_of_a_server_takes_no_long_time(text: str) -> None:
    assert hidden(text) == text
