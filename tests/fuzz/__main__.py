"""`make fuzz`: run every target in its own process for its share of the time. With atheris, the inputs are chosen by coverage.

    python -m tests.fuzz [--seconds N] [--seed N] [--corpus DIRECTORY] [TARGET …]

Inputs that reach new code stay in the corpus for later runs. Inputs that reveal a fault are saved below `found/`, and the run fails. Add a
test for each of them to `test_found.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import io
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..world.mutation import mutated
from ..world.paths import ROOT

if TYPE_CHECKING:
    from .target import Target

CORPUS = ROOT / ".cache" / "fuzz"
HANG = 25
"""Seconds after which the processing of one input counts as endless."""
MEMORY = 1024
"""Maximum memory of a process in MiB: the interpreter, the libraries, and the memory for one input."""


FOUND = 77
"""The exit code of a process that found a fault, the same as libFuzzer's."""


class Ran(NamedTuple):
    """The result of one target."""

    executions: int
    coverage: str
    found: list[Path]
    status: int
    log: str

    @property
    def is_right(self) -> bool:
        """Whether the target ran to its end without a fault."""
        return not self.found and self.executions > 0 and self.status == 0


def main() -> int:
    asked = argparse.ArgumentParser(prog="make fuzz")
    asked.add_argument("--seconds", type=float, default=3600.0, help="for all targets together")
    asked.add_argument(
        "--seed", type=int, help="for the dice: the same inputs in the same order, as far as the time goes; otherwise others each time"
    )
    asked.add_argument("--corpus", type=Path, default=CORPUS)
    asked.add_argument("targets", nargs="*")
    given = asked.parse_args()
    guided = importlib.util.find_spec("atheris") is not None
    targets = _load(guided=guided)
    names = given.targets or list(targets)
    if unknown := [name for name in names if name not in targets]:
        asked.error(f"no such target: {', '.join(unknown)}; there are {', '.join(targets)}")
    share = given.seconds / len(names)
    print(
        f"{len(names)} targets, {share:.1f} s each, {'following coverage' if guided else 'without coverage: atheris is not here'}",
        flush=True,
    )
    results: dict[str, Ran] = {}
    for name in names:
        ran = results[name] = _run(targets[name], share, given.corpus, guided=guided, seed=given.seed)
        shown = f"  found {', '.join(map(str, ran.found))}" if ran.found else "" if ran.is_right else f"  ended with status {ran.status}"
        print(f"{name:20} {ran.executions:>10} executions  {ran.coverage:28}{shown}", flush=True)
        if not ran.is_right:
            print(ran.log, flush=True)
    found = [path for ran in results.values() for path in ran.found]
    print(f"{sum(ran.executions for ran in results.values())} executions in all, {len(found)} found")
    return 0 if all(ran.is_right for ran in results.values()) else 1


def _load(*, guided: bool) -> dict[str, Target]:
    """Import the targets. With coverage counters, this takes seconds, so it is done once for all targets."""
    if guided:
        import atheris

        with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["marfetch"]):
            from .targets import TARGETS
    else:
        from .targets import TARGETS
    return TARGETS


def _run(target: Target, seconds: float, corpus: Path, *, guided: bool, seed: int | None) -> Ran:
    """Run one target in its own process, which may crash."""
    kept, inputs = corpus / "found" / target.name, corpus / target.name
    for directory in (kept, inputs):
        directory.mkdir(parents=True, exist_ok=True)
    before = set(kept.iterdir())
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary, tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            os.environ |= {
                "TMPDIR": temporary,
                "HOME": temporary,
                "MARFETCH_CACHE_DIR": f"{temporary}/cache",
                "XDG_STATE_HOME": f"{temporary}/state",
            }
            tempfile.tempdir = temporary
            try:
                (_follow if guided else _without)(target, seconds, inputs, kept, seed)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        # The last input may need its whole time limit, and a busy machine is slower.
        end = time.monotonic() + 2 * seconds + 60 + HANG
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                ended = os.waitpid(child, 0)
                break
            time.sleep(0.05)
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    count = re.findall(r"^stat::number_of_executed_units: +(\d+)|^executions: (\d+)$|^#(\d+)\t", text, re.MULTILINE)
    reached = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text)
    coverage = f"{reached[-1][0]} edges, {reached[-1][2]} inputs" if reached else ""
    return Ran(
        max((int(a or b or c) for a, b, c in count), default=0), coverage, sorted(set(kept.iterdir()) - before), ended[1], text[-6000:]
    )


def _follow(target: Target, seconds: float, inputs: Path, kept: Path, dice: int | None) -> None:
    """Run a target with atheris. This never returns, because libFuzzer ends the process."""
    import atheris

    for seed in target.seeds():
        (inputs / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
        target(seed)  # fill caches before coverage is measured
    words = [
        "fuzz", f"-max_total_time={max(1, round(seconds))}", f"-timeout={HANG}", f"-rss_limit_mb={MEMORY}", f"-max_len={target.most}",
        f"-seed={dice or 0}", f"-artifact_prefix={kept}/", "-print_final_stats=1", "-use_value_profile=1", "-verbosity=1", str(inputs),
    ]  # fmt: skip
    atheris.Setup(words, lambda data: _kept(target, data, kept) and os._exit(FOUND))
    atheris.Fuzz()


def _kept(target: Target, data: bytes, kept: Path) -> bool:
    """Run a target with these bytes. If they reveal a fault, save them and return True."""
    try:
        target(data)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        (kept / f"crash-{hashlib.sha256(data).hexdigest()[:40]}").write_bytes(data)
        return True
    return False


def _without(target: Target, seconds: float, _: Path, kept: Path, seed: int | None) -> None:
    """Run a target without atheris: change the seeds at random until the time is over."""
    count, dice = 0, random.Random(seed)
    seeds = list(target.seeds())
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(dice.choice(seeds), dice, seeds, target.most)
        count += 1
        if _kept(target, data, kept):
            break
    print(f"executions: {count}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
