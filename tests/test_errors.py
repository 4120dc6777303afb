"""The error classes and their codes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from marfetch import errors
from marfetch.codes import CODES

PACKAGE = Path(errors.__file__).parent

TREE = {
    "Error": 1,
    "InputError": 2,
    "NotFoundError": 3,
    "PolicyError": 4,
    "IntegrityError": 5,
    "SignatureError": 6,
    "RemoteError": 7,
    "RateLimitedError": 7,
    "LockError": 8,
    "StorageError": 9,
    "InternalError": 70,
    "Interrupted": 130,
    "Terminated": 143,
}


@pytest.mark.parametrize(("name", "code"), TREE.items(), ids=TREE)
def test_each_class_owns_the_exit_code_of_the_contract(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.Error)
    assert kind.exit_code == code


def raised_codes() -> dict[str, set[str]]:
    """Read the source, and return code → the classes with which the package raises this code."""
    found: dict[str, set[str]] = {"rate-limited": {"RateLimitedError"}}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in TREE:
                continue
            for keyword in node.keywords:
                if keyword.arg == "code":
                    for leaf in ast.walk(keyword.value):
                        if isinstance(leaf, ast.Constant) and isinstance(leaf.value, str) and leaf.value in CODES:
                            found.setdefault(leaf.value, set()).add(node.func.id)
                    if isinstance(keyword.value, ast.Constant):
                        assert keyword.value.value in CODES, (path.name, node.lineno, keyword.value.value)
    return found


@pytest.mark.slow
def test_every_code_is_raised_by_the_class_that_the_table_names() -> None:
    found = raised_codes()
    for code, classes in found.items():
        assert classes == {CODES[code].kind}, code


def test_no_code_of_the_table_is_never_raised() -> None:
    # Codes that are chosen at run time appear in the source as plain constants.
    source = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.name not in ("errors.py", "refusals.py"))
    assert [code for code in CODES if f'"{code}"' not in source and code != "rate-limited"] == []


def test_every_error_says_what_to_do_next() -> None:
    assert errors.InputError("no", code="usage").hint == "see the command's `--help`"
    assert errors.InputError("no", code="usage", hint="this").hint == "this"
    assert all(code.means and code.do for code in CODES.values())


def test_an_error_keeps_the_facts_that_are_known() -> None:
    error = errors.RemoteError("it failed", code="cut", hint="again", url="https://x/", status=None)
    assert str(error) == "it failed"
    assert error.context == {"url": "https://x/"}


@pytest.mark.parametrize("code", ["unreachable", "tls", "timeout", "proxy", "blocked", "server-error", "cut"])
def test_the_hint_of_a_network_failure_names_the_doctor(code: str) -> None:
    assert "marfetch doctor" in CODES[code].do
