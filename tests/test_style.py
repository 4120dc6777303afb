"""The style of marfetch's texts: counted phrases, and the form of help texts and messages."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .world.architecture import HOUSE, unit
from .world.paths import ROOT

PHRASES = re.compile(
    r"\b(whoever|whomever|somebody|nobody|thereof|of whom|so-and-so|so-manieth|stands? (?:in|there|under|beside|for|twice)|is told|are told|was told"
    r"|what is (?:asked|wanted|left|under way)|those that|that which|in place of|what may|one of which|takes? away|taken away)\b",
    re.IGNORECASE,
)
"""Phrases that often make a sentence hard to read. Use the usual word instead."""

MOST = 0.5
"""The maximum number of such phrases in 1,000 words."""

MESSAGES = {"InputError", "NotFoundError", "PolicyError", "IntegrityError", "SignatureError", "RemoteError", "LockError", "StorageError"}


def prose(text: str, tree: ast.AST) -> str:
    """Return the docstrings, messages and comments of a module."""
    found = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    found += [token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT]
    return "\n".join(one for one in found if " " in one)


def rate(texts: list[str]) -> float:
    """Return how many counted phrases there are in 1,000 words."""
    words = sum(len(text.split()) for text in texts)
    return 1000 * sum(len(PHRASES.findall(text)) for text in texts) / max(words, 1)


def found(texts: dict[str, str]) -> str:
    """Return the counted phrases with their files, most frequent first."""
    places = Counter({name: len(PHRASES.findall(text)) for name, text in texts.items()})
    return ", ".join(f"{name} ({count}: {PHRASES.findall(texts[name])[:3]})" for name, count in places.most_common(8) if count)


def test_the_documentation_uses_plain_words() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "README.md"]
    texts = {str(page.relative_to(ROOT)): page.read_text() for page in pages}
    assert rate(list(texts.values())) <= MOST, f"reword: {found(texts)}"


def test_the_code_uses_plain_words() -> None:
    texts = {name or "__init__": prose(path.read_text(), HOUSE.trees[name]) for name, path in HOUSE.modules.items()}
    assert rate(list(texts.values())) <= MOST, f"reword: {found(texts)}"


def test_the_tests_use_plain_words() -> None:
    """Check the prose of the tests, and the names of test functions as sentences."""
    files = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__)]
    texts, names = {}, {}
    for path in files:
        text = path.read_text()
        tree = ast.parse(text)
        functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
        texts[str(path.relative_to(ROOT))] = prose(text, tree)
        names[str(path.relative_to(ROOT))] = "\n".join(functions).replace("_", " ")
    assert rate(list(texts.values())) <= MOST, f"reword: {found(texts)}"
    assert rate(list(names.values())) <= MOST, f"rename: {found(names)}"


def commands() -> Iterator[tuple[str, ast.FunctionDef]]:
    for name, tree in HOUSE.trees.items():
        for node in tree.body if unit(name) == "cli" else ():
            if isinstance(node, ast.FunctionDef) and any("shared" in ast.unparse(one) for one in node.decorator_list):
                yield f"{name}.{node.name}", node


def test_the_summary_of_a_command_is_one_short_sentence() -> None:
    summaries = {name: (ast.get_docstring(command) or "").partition("\n")[0] for name, command in commands()}
    assert {name: text for name, text in summaries.items() if len(text) > 60} == {}, "at most 60 characters"
    assert {name: text for name, text in summaries.items() if not re.fullmatch(r"[A-Z][^;:–—]*\.", text)} == {}, (
        "one sentence without a trailing clause"
    )
    assert len(summaries) > 20


def raised() -> Iterator[tuple[str, ast.expr]]:
    """Yield the file and the message of each error that the package creates."""
    for name, tree in HOUSE.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MESSAGES and node.args:
                yield f"{name}:{node.lineno}", node.args[0]


def test_messages_are_clauses_that_begin_small_and_end_without_a_period() -> None:
    wrong = []
    for where, message in raised():
        parts = [part for part in ast.walk(message) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if isinstance(message, (ast.Constant, ast.JoinedStr)) and parts:
            first = message.values[0] if isinstance(message, ast.JoinedStr) else message
            last = message.values[-1] if isinstance(message, ast.JoinedStr) else message
            if isinstance(first, ast.Constant) and re.match(r"[A-Z][a-z]", str(first.value)):
                wrong.append(f"{where}: {first.value!r}")
            if isinstance(last, ast.Constant) and str(last.value).endswith(".") and not str(last.value).endswith("…"):
                wrong.append(f"{where}: {last.value!r}")
    assert wrong == [], "begin with a lower-case letter or a name in backticks, and omit the period"


COUNTED = re.compile(
    r" (artifact|version|file|tag|layer|repositor(?:y|ie)|blob|referrer|manifest|finding|member|name|chart|request|worker|warning|image)s?\b"
)


def test_counts_agree_with_their_nouns() -> None:
    """Use `text.counted(1, "artifact")` for "1 artifact". A number followed by a fixed plural noun is wrong for 1."""
    wrong = []
    for name, tree in HOUSE.trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.JoinedStr):
                continue
            for number, noun in zip(node.values, node.values[1:], strict=False):
                if not isinstance(number, ast.FormattedValue) or not isinstance(noun, ast.Constant) or not COUNTED.match(str(noun.value)):
                    continue
                shown = ast.unparse(number.value)
                if re.match(r"len\(|sum\(|count|number\b", shown):
                    wrong.append(f"{name}:{node.lineno}: {{{shown}}}{str(noun.value)[:20]}")
    assert wrong == [], "use `text.counted` for a number and its noun"
