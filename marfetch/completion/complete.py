"""Complete the word under the cursor.

The shell waits for the answer at every Tab, so as little as possible is loaded. Commands and options come from `commands.json`, which
`docs/generate.py` generates from the real parser. Repositories and tags come from the cache. No request is made.

The output has the form of Cobra's `__complete`, so that Helm's `plugin.complete` can pass it on: one candidate per line, with its
description after a tab, and `:` with a directive in the last line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from .known import KnownRegistries
from .line import Line, option_of, read_line, table_of_commands

# Bits of Cobra's `ShellCompDirective`.
DEFAULT: Final = 0
"""The shell offers files if there is no candidate."""
ERROR: Final = 1
NO_SPACE: Final = 2
NO_FILES: Final = 4
DIRECTORIES: Final = 16
KEEP_ORDER: Final = 32

MAX_CANDIDATES: Final = 2000

TAKES_FILE: Final = frozenset(("PEM", "FILE", "LAYOUT", "PATH"))
TAKES_DIRECTORY: Final = frozenset(("DIR",))
"""Metavars whose values are files or directories. `FROM_CACHE` and the `values` in `commands.json` complete other metavars."""

_REPOSITORY_ONLY: Final = frozenset((("versions",),))
"""Commands whose REF takes no tag or digest."""

# Candidates must not contain characters that are special to a shell, or look like an option.
_SAFE = re.compile(r"(?!-)[A-Za-z0-9_./:@+,=-]+")


class Candidates(NamedTuple):
    """The completions of a word.

    Attributes:
        candidates: texts that begin with the word, each with a description, which may be empty.
        directive: sum of the directive bits.
    """

    candidates: Sequence[tuple[str, str]]
    directive: int


_NOTHING: Final = Candidates((), NO_FILES)


def complete(words: Sequence[str]) -> str:
    """Return the output for the words after `marfetch`; never fails. The last word is under the cursor."""
    try:
        candidates, directive = find_candidates(words, os.environ)
    except Exception:  # an error message would disturb the command line that the user is typing
        candidates, directive = (), ERROR
    lines = [f"{text}\t{described}" if described else text for text, described in candidates[:MAX_CANDIDATES]]
    return "\n".join([*lines, f":{directive}"]).encode("ascii", "replace").decode("ascii")


def find_candidates(words: Sequence[str], environment: Mapping[str, str]) -> Candidates:
    """Return the candidates for the last word."""
    *before, word = words or [""]
    table = table_of_commands()
    is_help = before[:1] == ["help"]
    line = read_line(table, before[1:] if is_help else before)
    if line is None or (is_help and "commands" not in line.command):
        return _NOTHING
    known = KnownRegistries(line.last("--endpoint"), line.last("--cache-dir"), environment)
    if line.pending is not None:
        return _value(table, line, known, line.pending["takes"], word)
    if word.startswith("-") and not line.options_ended:
        name, equals, value = word.partition("=")
        if not equals:
            return _options(line, word)
        option = option_of(line.command, name)
        if option is None or option["takes"] is None:
            return _NOTHING
        found = _value(table, line, known, option["takes"], value)
        return Candidates([(f"{name}={text}", described) for text, described in found.candidates], found.directive)
    if "commands" in line.command:
        return Candidates(_beginning(word, ((name, one["help"]) for name, one in line.command["commands"].items())), NO_FILES)
    arguments = line.command["arguments"]
    position = min(len(line.arguments), len(arguments) - 1)
    if position < 0 or (len(line.arguments) > position and not arguments[position]["repeats"]):
        return _NOTHING
    return _value(table, line, known, arguments[position]["takes"], word)


def _options(line: Line, word: str) -> Candidates:
    """Complete an option name; options that cannot be repeated are offered once."""
    found: list[tuple[str, str]] = []
    for one in line.command["options"]:
        if one["repeats"] or one["names"][0] not in line.options:
            found += [(name, one["help"]) for name in one["names"] if name.startswith(word)]
    return Candidates(found, NO_FILES)


def _value(table: Mapping[str, Any], line: Line, known: KnownRegistries, takes: str, word: str) -> Candidates:
    """Complete the value of an option or argument by its metavar."""
    if takes in TAKES_FILE:
        return Candidates((), DEFAULT)
    if takes in TAKES_DIRECTORY:
        return Candidates((), DIRECTORIES)
    if takes in FROM_CACHE:
        return FROM_CACHE[takes](line, known, word)
    if takes not in table["values"]:
        return _NOTHING
    values = [(text, described) for text, described in table["values"][takes]]
    if takes != "KIND":
        return Candidates(_beginning(word, values), NO_FILES)
    *chosen, rest = word.split(",")
    head = "".join(f"{one}," for one in chosen)
    more = [(head + text, described) for text, described in values if text not in chosen and text.startswith(rest)]
    return Candidates(_beginning(head, more), NO_FILES | NO_SPACE)


def _beginning(word: str, found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(text, described) for text, described in found if text.startswith(word) and _SAFE.fullmatch(text)]


# -- values from the cache


def _references(line: Line, known: KnownRegistries, word: str) -> Candidates:
    parts = known.split(word)
    if parts is None:
        return _NOTHING
    head, host, rest = parts
    name, at, _ = rest.partition("@")
    repository, colon, tag = name.partition(":")
    if (at or colon) and (line.path in _REPOSITORY_ONLY or "--version" in line.options):
        return _NOTHING
    if at:
        digests = known.digests(host, repository, tag if colon else None)
        return Candidates(_beginning(word, ((f"{head}{name}@{digest}", tags) for digest, tags in digests)), NO_FILES)
    if colon:
        tags = sorted(known.tags(host, repository), key=_by_numbers, reverse=True)
        return Candidates(_beginning(word, ((f"{head}{repository}:{one}", "") for one in tags)), NO_FILES | KEEP_ORDER)
    found = [] if head.lower() == "https://" else [f"{head}{one}" for one in known.repositories(host)]
    if word and "/" not in rest and (not head or head.endswith("://")):
        found += [f"{head}{one}/" for one in known.hosts]
    # No space: a tag, a digest, or the rest of the path can follow.
    return Candidates(_beginning(word, ((one, "") for one in found)), NO_FILES | NO_SPACE)


def _versions(line: Line, known: KnownRegistries, word: str) -> Candidates:
    """Complete a version of the repository in the line, newest first; prereleases come last unless `--devel` is given."""
    parts = known.split(line.arguments[-1]) if line.arguments else None
    if parts is None or re.search("[:@]", parts[2]):
        return _NOTHING
    from ..constraint import distinct, sort_versions  # late: only the completion of versions needs it

    groups = distinct(sort_versions(known.tags(parts[1], parts[2])))
    first = [text for text, tagged in groups.items() if "--devel" in line.options or not tagged[0].is_prerelease]
    found: list[tuple[str, str]] = []
    for text in dict.fromkeys([*first, *groups]):
        tag = groups[text][0].tag
        found.append((text, "" if tag == text else f"tag {tag}"))
    return Candidates(_beginning(word, found), NO_FILES | KEEP_ORDER)


FROM_CACHE: Final[Mapping[str, Callable[[Line, KnownRegistries, str], Candidates]]] = {"REF": _references, "RANGE": _versions}


def _by_numbers(tag: str) -> list[tuple[int, int, str]]:
    """Return a sort key that compares the numbers in tags. The exact SemVer order would need `semver`, which is slow to load."""
    key = []
    for part in re.split(r"([0-9]{1,18})", tag.removeprefix("v")):
        if part.isdecimal():
            key.append((1, int(part), ""))
        elif part:
            key.append((-1 if part[0] == "-" else 0, 0, part))
    return [*key, (0, 0, "")]
