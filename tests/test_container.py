"""`ci/Containerfile`: it does not run as root, installs packages only by hash, and copies only files that exist.

The image is not built here: no base image can be reached.
"""

from __future__ import annotations

import re

from .world.paths import ROOT

TEXT = (ROOT / "ci" / "Containerfile").read_text().replace("\\\n", " ")
LINES = [line.split(maxsplit=1) for line in TEXT.splitlines() if line and not line.startswith("#")]
WORDS = [word for word, _ in LINES]
LAST = LINES[max(number for number, word in enumerate(WORDS) if word == "FROM") :]


def of(word: str, lines: list[list[str]] = LINES) -> list[str]:
    return [rest for name, rest in lines if name == word]


def test_the_instructions_are_known_ones() -> None:
    assert set(WORDS) <= {"ARG", "FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "ENTRYPOINT", "CMD"}  # no ADD, which downloads
    assert of("FROM") == ["${BASE} AS build", "${BASE}"]
    assert of("ARG") == ["BASE=docker.io/library/python:3.13-slim"]


def test_the_user_of_the_image_is_a_number_and_not_root() -> None:
    (user,) = of("USER", LAST)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    after = LAST[[name for name, _ in LAST].index("USER") :]
    assert [name for name, _ in after if name in ("RUN", "COPY")] == []
    assert f"chown {user} /cache /work" in of("RUN", LAST)[0]


def test_only_the_cache_is_written() -> None:
    assert of("VOLUME", LAST) == ["/cache"]
    variables = dict(pair.split("=", 1) for pair in of("ENV", LAST)[0].split())
    for name in ("HOME", "MARFETCH_CACHE_DIR", "XDG_STATE_HOME"):
        assert variables[name].startswith("/cache")
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    assert of("ENTRYPOINT", LAST) == ['["marfetch"]']


def test_packages_are_held_by_hash_and_what_is_copied_is_there() -> None:
    installs = [line for line in of("RUN") if "pip install" in line]
    assert "--require-hashes -r requirements/runtime.lock" in installs[0]
    assert "--no-deps ." in installs[1]
    sources = [word for line in of("COPY", LINES[: -len(LAST)]) for word in line.split()[:-1]]
    assert [name for name in sources if not (ROOT / name).exists()] == []
    included = {"requirements/runtime.lock", "pyproject.toml", "README.md", "LICENSE", "fixtures/repositories.jsonl", "marfetch"}
    assert set(sources) == included
