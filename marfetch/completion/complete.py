"""Completion of command lines: what can stand in place of the word under the cursor.

A shell waits for it at every press of a key, so nothing is loaded that the answer does not need: commands and options come from
`commands.json`, which `docs/generate.py` makes of the real parser, repositories and tags from what the cache has. Nobody is asked.

The answer has the form of Cobra's `__complete`, so that Helm's `plugin.complete` can pass it on: a candidate in each line, its
description behind a tab, and in the last line `:` and a directive.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from .known import KnownRegistries

# Cobra's `ShellCompDirective`: bits that can be joined.
DEFAULT: Final = 0
"""Where there is no candidate, the shell offers files."""
ERROR: Final = 1
NO_SPACE: Final = 2
NO_FILES: Final = 4
DIRECTORIES: Final = 16
KEEP_ORDER: Final = 32

MAX_CANDIDATES: Final = 2000

TAKES_FILE: Final = frozenset(("PEM", "FILE", "LAYOUT"))
TAKES_DIRECTORY: Final = frozenset(("DIR",))
"""What `takes` of the table says of a value. `FROM_CACHE` and the table's `values` complete others; the rest is not completed."""

_REPOSITORY_ONLY: Final = frozenset((("versions",),))
"""Commands whose REF has neither tag nor digest."""

# No candidate has a character that means something to a shell, nor begins like an option.
_SAFE = re.compile(r"(?!-)[A-Za-z0-9_./:@+,=-]+")


class Candidates(NamedTuple):
    """What can stand in place of a word.

    Attributes:
        candidates: each with its description, which may be empty; they begin with the word.
        directive: what the shell does with them, as a sum of bits.
    """

    candidates: Sequence[tuple[str, str]]
    directive: int


_NOTHING: Final = Candidates((), NO_FILES)


class Line(NamedTuple):
    """The words before the cursor, read as the parser would read them.

    Attributes:
        path: the command and those below it, such as `("cache", "info")`.
        command: its entry in the table.
        options: first name → values; an option that takes none has empty ones.
        waiting: the option whose value comes next.
        ended: whether `--` was among the words, so that no option comes any more.
    """

    path: tuple[str, ...]
    command: Mapping[str, Any]
    options: Mapping[str, list[str]]
    arguments: Sequence[str]
    waiting: Mapping[str, Any] | None
    ended: bool

    def last(self, name: str) -> str | None:
        """The value of an option, the last one where it was given several times."""
        return self.options[name][-1] if name in self.options else None


def complete(words: Sequence[str]) -> str:
    """The answer for the words behind `marfetch`, of which the last is the one under the cursor; it never fails."""
    try:
        candidates, directive = answer(words, os.environ)
    except Exception:  # whatever it is, a person in the middle of a line is not to be told
        candidates, directive = (), ERROR
    lines = [f"{text}\t{described}" if described else text for text, described in candidates[:MAX_CANDIDATES]]
    return "\n".join([*lines, f":{directive}"]).encode("ascii", "replace").decode("ascii")


def answer(words: Sequence[str], environment: Mapping[str, str]) -> Candidates:
    """What can stand in place of the last word."""
    *before, word = words or [""]
    table = _table()
    line = read_line(table, before)
    if line is None:
        return _NOTHING
    known = KnownRegistries(line.last("--endpoint"), line.last("--cache-dir"), environment)
    if line.waiting is not None:
        return _value(table, line, known, line.waiting["takes"], word)
    if word.startswith("-") and not line.ended:
        name, equals, value = word.partition("=")
        if not equals:
            return _options(line, word)
        option = _option(line.command, name)
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


def _table() -> dict[str, Any]:
    path = os.path.join(os.path.dirname(__file__), "commands.json")  # noqa: PTH118, PTH120 - pathlib takes a fifth of the time
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        table: dict[str, Any] = json.load(file)
    return table


def read_line(table: Mapping[str, Any], words: Iterable[str]) -> Line | None:
    """Read the words before the cursor; None where they name a command that there is not."""
    path: tuple[str, ...] = ()
    command = table
    options: dict[str, list[str]] = {}
    arguments: list[str] = []
    waiting: Mapping[str, Any] | None = None
    ended = False
    for word in words:
        if waiting is not None:
            options.setdefault(waiting["names"][0], []).append(word)
            waiting = None
        elif word == "--" and not ended:
            ended = True
        elif word.startswith("-") and len(word) > 1 and not ended:
            long = word.startswith("--")
            name, equals, value = word.partition("=") if long else (word[:2], word[2:3], word[2:])
            option = _option(command, name)
            if option is None:
                continue  # the parser will say so
            if option["takes"] is not None and not equals:
                waiting = option
            else:
                options.setdefault(option["names"][0], []).append(value)
        elif "commands" in command:
            if word not in command["commands"]:
                return None
            command, path = command["commands"][word], (*path, word)
        else:
            arguments.append(word)
    return Line(path, command, options, arguments, waiting, ended)


def _option(command: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((one for one in command["options"] if name in one["names"]), None)


def _options(line: Line, word: str) -> Candidates:
    """Options that can still be given: the long names, the short ones too where no second dash stands."""
    found: list[tuple[str, str]] = []
    for one in line.command["options"]:
        if one["repeats"] or one["names"][0] not in line.options:
            found += [(name, one["help"]) for name in one["names"] if name.startswith(word)]
    return Candidates(found, NO_FILES)


def _value(table: Mapping[str, Any], line: Line, known: KnownRegistries, takes: str, word: str) -> Candidates:
    """What can stand where an option or an argument takes such a value."""
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


# -- what the cache knows


def _references(line: Line, known: KnownRegistries, word: str) -> Candidates:
    place = known.place(word)
    if place is None:
        return _NOTHING
    head, host, rest = place
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
    # A tag, a digest, or the rest of the path can follow.
    return Candidates(_beginning(word, ((one, "") for one in found)), NO_FILES | NO_SPACE)


def _versions(line: Line, known: KnownRegistries, word: str) -> Candidates:
    """Versions of the repository that stands in the line, newest first, prereleases last unless they are asked for."""
    place = known.place(line.arguments[-1]) if line.arguments else None
    if place is None or re.search("[:@]", place[2]):
        return _NOTHING
    from ..constraint import distinct, sort_versions  # late: semver, only where versions are sorted

    groups = distinct(sort_versions(known.tags(place[1], place[2])))
    first = [text for text, tagged in groups.items() if "--devel" in line.options or not tagged[0].is_prerelease]
    found: list[tuple[str, str]] = []
    for text in dict.fromkeys([*first, *groups]):
        tag = groups[text][0].tag
        found.append((text, "" if tag == text else f"tag {tag}"))
    return Candidates(_beginning(word, found), NO_FILES | KEEP_ORDER)


FROM_CACHE: Final[Mapping[str, Callable[[Line, KnownRegistries, str], Candidates]]] = {"REF": _references, "RANGE": _versions}


def _by_numbers(tag: str) -> list[tuple[int, int, str]]:
    """Sorts tags by the numbers in them, texts and prereleases lower; the true order needs `semver`, which needs time."""
    key = []
    for part in re.split(r"([0-9]{1,18})", tag.removeprefix("v")):
        if part.isdecimal():
            key.append((1, int(part), ""))
        elif part:
            key.append((-1 if part[0] == "-" else 0, 0, part))
    return [*key, (0, 0, "")]
