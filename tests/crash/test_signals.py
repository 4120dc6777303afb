"""SIGINT, SIGTERM and SIGHUP at any moment, once and twice: marfetch exits soon with the right code and leaves no temporary files."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from marfetch import __main__ as front

from ..world.rows import row
from .nursery import Child, Ended
from .scenes import SCENES, Stage
from .sweep import PATIENCE, SWEEP, Count

pytestmark = pytest.mark.timeout(PATIENCE)

MOMENTS = 100 if SWEEP else 20
LONGEST = 20.0
"""Maximum seconds until a command ends after a signal, on a busy machine."""
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}
PLAYED = ("pull-new", "untar", "sync", "bundle-create", "bundle-load")


def told_to_end(child: Child, number: int, moment: float, again: float | None) -> Ended:
    child.go()
    time.sleep(moment)
    child.send(number)
    if again is not None:
        time.sleep(again)
        child.send(number)
    return child.wait(LONGEST)


@row(
    "F04",
    "SIGINT, SIGTERM and SIGHUP at 20 moments each, spread over five commands",
    "Ends soon and leaves no temporary files; the next run continues",
    code=(130, 143),
)
@pytest.mark.parametrize(
    ("number", "is_twice"),
    [(signal.SIGINT, False), (signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGHUP, False)],
    ids=["SIGINT", "SIGINT-twice", "SIGTERM", "SIGHUP"],
)
def test_a_terminated_command_ends_and_leaves_nothing(number: signal.Signals, is_twice: bool, stage: Stage, count: Count) -> None:
    dice = random.Random()
    stopped = 0
    for name in PLAYED:
        scene = SCENES[name]
        stage.prepare(scene)
        stage.mar.on("data").drips(40_000, 0.01)
        place = stage.fresh()
        begun = time.monotonic()
        assert stage.run(place, *scene.words).code == 0
        duration = time.monotonic() - begun
        for _ in range(MOMENTS // len(PLAYED)):
            stage.mar.on("data").drips(40_000, 0.01)
            place = stage.fresh()
            moment = dice.uniform(0, duration)
            again = dice.uniform(0, 0.03) if is_twice else None
            try:
                ended = told_to_end(stage.start(place, *scene.words), number, moment, again)
                # 0: the command had already finished; -number: no signal handler was installed yet.
                assert ended.code in (CODES[number], 0, -number), ended
                assert "Traceback" not in ended.err, ended
                if ended.code == -number:
                    stage.check_unchanged(place)
                stage.check_finals(scene, place)
                stage.check_tidy(place)
                stage.check_recovery(scene, place)
            except (AssertionError, TimeoutError) as error:
                error.add_note(f"`{name}` {moment:.4f} s after its beginning, again after {again}")
                raise
            stopped += ended.code == CODES[number]
            stage.drop(place)
        stage.close()
    count(f"moments of {signal.Signals(number).name}{' twice' if is_twice else ''}", stopped)
    assert stopped >= MOMENTS // 3, f"only {stopped} of {MOMENTS} signals arrived in time"


@row("F04", "a second signal", "Continues the orderly exit, unless it takes too long", code=143)
def test_a_second_signal_ends_a_command_whose_orderly_exit_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    command = front.CommandRun(["pull"])
    with pytest.raises(KeyboardInterrupt):
        command.interrupt(signal.SIGTERM, None)
    command.interrupt(signal.SIGINT, None)
    assert ended == []
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + front._GRACE_PERIOD + 1)
    command.interrupt(signal.SIGINT, None)
    assert ended == [143]


@row("F04", "a signal inside a finalizer, where Python ignores exceptions", "Ends all the same", code=143)
def test_a_signal_that_comes_in_a_finalizer_is_not_lost(stage: Stage, tmp_path: Path) -> None:
    import subprocess
    import sys

    place = stage.root / "prepared"
    (place / "work").mkdir(parents=True)
    # The finalizer sends the signal to its own process, and sleeps until the signal arrives, in the middle of the command's work.
    code = (
        "import os, signal, sys, time\nfrom marfetch import __main__\nfrom marfetch.client import pull\n"
        "class Late:\n    def __del__(self):\n        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(30)\n"
        "find = pull.find\n"
        "def late(*arguments):\n    Late()\n    return find(*arguments)\n"
        "pull.find = late\nsys.argv = ['marfetch', 'pull', 'aks/one:1.0.0']\n__main__.program()\n"
    )
    surroundings = {**stage.environment(place), "PYTHONPATH": str(Path(front.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], cwd=place / "work", env=surroundings, capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert done.returncode == 143, done.stderr
    assert "ended by SIGTERM" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((place / "work").iterdir()) == []


@row("F04", "SIGHUP under `nohup`", "Ignores the signal", code=0)
def test_a_command_that_shall_outlive_its_terminal_does(stage: Stage, tmp_path: Path) -> None:
    import subprocess
    import sys

    place = stage.root / "prepared"
    (place / "work").mkdir(parents=True)
    stage.mar.on("data").drips(20_000, 0.02)
    line = ["nohup", sys.executable, "-P", "-m", "marfetch", "pull", "aks/one:1.0.0", "--quiet"]
    surroundings = {**stage.environment(place), "PYTHONPATH": str(Path(front.__file__).parents[1])}
    process = subprocess.Popen(line, cwd=place / "work", env=surroundings, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    for _ in range(600):
        if "data" in stage.mar.kinds():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert (place / "work" / "one.bin").exists()
