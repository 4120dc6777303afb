"""A short fuzzing run with the same inputs each time, so that failures are reproducible. `make fuzz` runs longer."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import marfetch
from marfetch import errors

from ..world import promise
from ..world.mutation import mutated
from ..world.paths import ROOT
from ..world.promise import BrokenPromiseError
from .target import Target
from .targets import TARGETS

SHARE = float(os.environ.get("MARFETCH_FUZZ", "1"))
"""A factor for the number of runs. For hours of fuzzing, use `make fuzz`."""


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    return TARGETS[request.param]


def test_every_seed_keeps_the_promise(target: Target) -> None:
    for seed in target.seeds():
        target(seed)


def test_changed_seeds_keep_the_promise(target: Target) -> None:
    seeds = list(target.seeds())
    dice = random.Random(target.name)
    for _ in range(round(target.runs * SHARE / 2)):
        data = mutated(dice.choice(seeds), dice, seeds, target.most)
        try:
            target(data)
        except BaseException as error:
            error.add_note(f"the bytes: {data!r}")
            raise


@settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.binary(max_size=200) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_and_any_text_keep_the_promise(name: str, data: bytes) -> None:
    TARGETS[name](data)


# -- the table


def readers() -> Iterator[str]:
    """Yield every function with the name `parse…`, `loads` or `members`. These functions convert untrusted bytes to values."""
    package = Path(marfetch.__file__).parent
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        scopes = [("", tree.body)] + [(f"{node.name}.", node.body) for node in tree.body if isinstance(node, ast.ClassDef)]
        for prefix, body in scopes:
            for node in body:
                if not isinstance(node, ast.FunctionDef) or "property" in {getattr(one, "id", "") for one in node.decorator_list}:
                    continue
                if node.name.startswith("parse") or node.name in ("loads", "members"):
                    yield f"{module}.{prefix}{node.name}"


def test_every_reader_of_foreign_bytes_is_a_target() -> None:
    named = {name for target in TARGETS.values() for name in target.reads}
    assert {name for name in readers() if "._" not in name} - named == set()


def code_of(name: str) -> CodeType:
    """Return the code object of a function, given its name in `Target.reads`."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(["marfetch", *parts[:end]]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        found = getattr(found, "__wrapped__", found)
        code: CodeType = getattr(found, "__func__", found).__code__
        return code
    raise AssertionError(f"there is no `{name}`")


def test_the_seeds_reach_what_a_target_is_for(target: Target) -> None:
    reached: set[CodeType] = set()

    def look(frame: Any, event: str, _: object) -> None:
        if event == "call":
            reached.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        for seed in target.seeds():
            target(seed)
    finally:
        sys.setprofile(before)
    assert [name for name in target.reads if code_of(name) not in reached] == []


def test_every_target_accepts_some_seed(target: Target) -> None:
    """If all seeds were refused at once, the target would test almost nothing."""
    with promise.guarded(programs=target.programs):
        for seed in target.seeds():
            try:
                target.run(seed)
            except Exception:  # other tests check the errors
                continue
            return
    assert target.name == "error-body", "all seeds are refused"


# -- the checks themselves, and the long run


BROKEN = {
    "an exception of another sort": (lambda _: [].pop(), IndexError),
    "an exit code of another sort": (lambda _: errors_raise(errors.IntegrityError("x", code="malformed")), BrokenPromiseError),
    "a code of another class": (lambda _: errors_raise(errors.InputError("x", code="malformed")), BrokenPromiseError),
    "a file outside": (lambda _: (promise.sandbox().parent / "outside").write_bytes(b""), BrokenPromiseError),
    "a file outside, tried and caught": (lambda _: tried(lambda: (promise.sandbox() / ".." / "outside").write_bytes(b"")), BrokenPromiseError),
    "a directory outside": (lambda _: (promise.sandbox().parent / "outside").mkdir(), BrokenPromiseError),
    "a link": (lambda _: (promise.sandbox() / "link").symlink_to("/"), BrokenPromiseError),
    "a connection": (lambda _: __import__("socket").create_connection(("127.0.0.1", 9)), BrokenPromiseError),
    "a program": (lambda _: subprocess.run(["true"], check=False), BrokenPromiseError),
}  # fmt: skip


def errors_raise(error: Exception) -> None:
    raise error


def tried(deed: Any) -> None:
    with contextlib.suppress(AssertionError):
        deed()


@pytest.mark.parametrize(("deed", "kind"), BROKEN.values(), ids=BROKEN)
def test_a_broken_promise_is_seen(deed: Any, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        Target("broken", deed, list, (2,), ())(b"")
    assert not (promise.sandbox().parent / "outside").exists()


def test_the_long_run_finds_what_is_broken_and_keeps_the_bytes(tmp_path: Path) -> None:
    """Run the fuzzer with a target that fails if the input starts with a certain letter."""
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\nsys.path.insert(0, sys.argv.pop(1))\n"
        "from tests.fuzz import __main__ as fuzz, target\n"
        "def broken(data):\n    if data[:1] == b'a':\n        raise KeyError('found')\n"
        "made = {'broken': target.Target('broken', broken, lambda: [b'xbc', b'zzz'], (), ()), 'right': target.Target('right', len, lambda: [b'b'], (), ())}\n"
        "fuzz._load = lambda guided: made\n"
        "sys.exit(fuzz.main())\n"
    )
    words = [sys.executable, str(script), str(ROOT), "--seconds", "6", "--corpus", str(tmp_path / "corpus")]
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    (kept,) = (tmp_path / "corpus" / "found" / "broken").iterdir()
    assert kept.read_bytes()[:1] == b"a"
    assert "KeyError" in done.stdout
    assert list((tmp_path / "corpus" / "found" / "right").iterdir()) == []
    assert (
        hashlib.sha256(b"xbc").hexdigest()[:16] in {path.name for path in (tmp_path / "corpus" / "broken").iterdir()}
        or "without" in done.stdout
    )
