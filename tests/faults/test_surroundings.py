"""F05, F07, X: the environment of a command: streams, terminals, home directories, umasks, arguments, Helm."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ..world.command import Window
from ..world.paths import ROOT
from ..world.rows import row
from ..world.world import Ended, World, tree

DATA = b"what is in the file"
PULL = ("pull", "aks/thing:1")
MADE = {"thing.txt": DATA}


@pytest.fixture
def thing(world: World) -> World:
    """Add an artifact, and a list of tags that is larger than the buffer of a pipe."""
    world.registry.add_artifact("aks/thing", "1", ("thing.txt", DATA))
    world.registry.tags["aks/many"] = json.dumps({"tags": [f"1.0.{number}" for number in range(20_000)]}).encode()
    return world


def ran(world: World, line: list[str], environment: Mapping[str, str], **options: Any) -> Ended:
    """Run a program without the launcher, and check its output and files."""
    before = tree(world.root)
    started, asked = time.monotonic(), len(world.registry.asked)
    settings: dict[str, Any] = {"cwd": world.here, "stdin": subprocess.DEVNULL, **options}
    done = subprocess.run(line, env=dict(environment), capture_output=True, timeout=90, check=False, **settings)
    after = tree(world.root)
    world.codes.append(done.returncode)
    ended = Ended(
        words=tuple(line),
        returncode=done.returncode,
        out=done.stdout.decode(errors="backslashreplace"),
        err=done.stderr.decode(errors="backslashreplace"),
        files={name: entry.content for name, entry in after.items() if name.startswith("here/") and before.get(name) != entry},
        partial={},
        asked=world.registry.asked[asked:],
        contacts=[],
        peak=0,
        received=0,
        seconds=time.monotonic() - started,
    )
    world.sweep(ended, before)
    return ended


# -- F05: streams


def closing(*numbers: int) -> Callable[[], None]:
    """Return a `preexec_fn` that closes these file descriptors."""

    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


@row("F05", "stdout, stderr, both, or also stdin are closed", "Does its work all the same", code=0)
@pytest.mark.parametrize("numbers", [(1,), (2,), (1, 2), (0, 1, 2)], ids=["stdout", "stderr", "both", "all"])
def test_streams_that_are_closed_do_not_matter(thing: World, numbers: tuple[int, ...]) -> None:
    thing.run(*PULL, preexec_fn=closing(*numbers)).succeeded(made=MADE, requests=3)
    ended = thing.run("versions", "aks/many", preexec_fn=closing(*numbers)).succeeded(requests=1)
    assert ended.err == "" or 2 not in numbers


@row("F05", "the reader of stdout has exited", "Finishes its work and exits without an error about the pipe", code=(0, 3))
def test_a_reader_that_is_gone_is_no_failure(thing: World) -> None:
    for words, code in ((PULL, 0), (("versions", "aks/many"), 0), (("--version",), 0), (("resolve", "aks/thing:2"), 3)):
        reading, writing = os.pipe()
        os.close(reading)
        try:
            ended = thing.run(*words, stdout=writing)
        finally:
            os.close(writing)
        assert ended.returncode == code, ended
        assert "Broken" not in ended.err, ended
    assert (thing.here / "thing.txt").read_bytes() == DATA


@row("F05", "stdout is a file on a full disk", "Reports it once; an earlier failure decides the exit code", code=(3, 9))
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_said(thing: World) -> None:
    for words, code in ((("versions", "aks/many"), 9), (("--version",), 9), (("resolve", "aks/thing:2"), 3)):
        with Path("/dev/full").open("wb") as full:
            ended = thing.run(*words, stdout=full)
        assert ended.returncode == code, ended
        assert ended.err.count("error: ") == 1, ended
    with Path("/dev/full").open("wb") as full:
        ended = thing.run(*PULL, stderr=full).succeeded(made=MADE)
    assert ended.out.startswith("thing.txt\t")


@row("F05", "the reader of stdout pauses until the pipe is full", "Waits, then writes everything, including complete JSON", code=0)
def test_a_full_pipe_is_waited_for(thing: World) -> None:
    line, environment = thing.command("versions", "aks/many", "--json", record=thing.root.parent / "record-piped")
    before = tree(thing.root)
    with subprocess.Popen(line, cwd=thing.here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        deadline, before_that, waiting = time.monotonic() + 60, -1, 0
        while waiting < 4096 or waiting != before_that:  # wait until the pipe is full
            assert time.monotonic() < deadline
            time.sleep(0.3)
            before_that, waiting = waiting, int.from_bytes(fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)), sys.byteorder)
        assert process.poll() is None
        out, err = process.communicate(timeout=60)
    thing.codes.append(process.returncode)
    ended = Ended(("versions", "--json"), process.returncode, out.decode(), err.decode(), {}, {}, [], [], 0, 0, 0.0)
    thing.sweep(ended, before)
    assert len(ended.document["data"]["versions"]) == 20_000


@pytest.mark.parametrize("term", ["dumb", "", "xterm", "nonsense"])
@row("F05", "stderr is a dumb terminal, or one of an unknown type", "Prints no escape sequences on a dumb terminal", code=0)
def test_a_dumb_terminal_gets_no_escapes(world: World, term: str) -> None:
    data = bytes(1 << 20)
    world.registry.add_artifact("aks/slow", "1", ("slow.bin", data))
    world.registry.on("data").drips(128 * 1024, 0.1)
    world.environment["TERM"] = term
    window = Window()
    try:
        ended = world.run("pull", "aks/slow:1", stderr=window.stream)
    finally:
        shown = window.text()
    ended.succeeded(made={"slow.bin": data})
    assert "warning: " in shown
    assert "\x1b]" not in shown
    if term != "xterm":
        assert "\x1b" not in shown or term == "nonsense", shown[:500]


@row(
    "F05",
    "a locale that is not UTF-8",
    "Writes the right file names, escapes text that the locale cannot show, and keeps JSON valid",
    code=0,
)
@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1", "nonsense"])
def test_a_locale_without_unicode_is_no_trouble(world: World, locale: str) -> None:
    world.registry.add_artifact("aks/uml", "1", ("grüße-日本.txt", DATA))
    world.environment |= {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    ended = world.run("pull", "aks/uml:1", "--json").succeeded(requests=3)
    assert ended.document["data"]["files"][0]["path"] == "grüße-日本.txt"
    assert (os.fsencode(world.here) + "/grüße-日本.txt".encode()) in [os.fsencode(path) for path in world.here.iterdir()]
    ended = world.run("pull", "aks/uml:1").succeeded(requests=1)
    assert ended.out.startswith("gr\\xfc\\xdfe-\\u65e5\\u672c.txt\t")


# -- F07: homes, directories, masks, users


def become_unknown() -> None:
    """Switch to a user id without an entry in the system (user_namespaces(7)). Use it as `preexec_fn` of a process."""
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(0x10000000) != 0:  # CLONE_NEWUSER
        os._exit(99)
    for name, text in (("setgroups", "deny"), ("uid_map", f"54321 {uid} 1"), ("gid_map", f"54321 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - runs between fork and exec, so keep it simple
            file.write(text)


@pytest.fixture
def unknown() -> dict[str, Any]:
    """Return the options for a command that runs as an unknown user, as in containers with a random user id."""
    look = [sys.executable, "-c", "import os, sys; sys.exit(os.getuid() != 54321)"]
    try:
        done = subprocess.run(look, preexec_fn=become_unknown, capture_output=True, check=False)
    except subprocess.SubprocessError:
        pytest.skip("cannot switch to another user id here")
    if done.returncode:
        pytest.skip("cannot switch to another user id here")
    return {"preexec_fn": become_unknown}


@row("F07", "no `HOME`, and a user id without an entry in the system", "Uses a cache for this run only and says so", code=0)
def test_a_user_without_a_home_directory_can_fetch(thing: World, unknown: dict[str, Any]) -> None:
    thing.environment |= {"HOME": None, "MARFETCH_CACHE_DIR": None}
    ended = thing.run(*PULL, "--json", **unknown).succeeded(made=MADE, requests=3)
    assert "cached for this run only" in ended.err
    assert "home directory" in ended.err
    thing.environment["MARFETCH_CACHE_DIR"] = str(thing.cache)
    thing.run(*PULL, "-d", "again", "--json", **unknown).succeeded(made={"again/thing.txt": DATA}, requests=3)


@row(
    "F07", "no `HOME` and an unknown user id, for commands that need a home directory", "Names `HOME`, without a traceback", code=(0, 1, 9)
)
@pytest.mark.parametrize(
    "words",
    [["cache", "info"], ["trust", "show"], ["setup"], ["doctor", "aks/thing:1"], ["verify", "aks/thing:1"]],
    ids=lambda words: words[0],
)
def test_commands_that_need_a_home_directory_report_it(thing: World, unknown: dict[str, Any], words: list[str]) -> None:
    thing.environment |= {"HOME": None, "MARFETCH_CACHE_DIR": None, "PATH": "/nonexistent"}
    thing.programs.add("helm")
    ended = thing.run(*words, "--json", **unknown)
    if words[0] == "doctor":
        assert ended.returncode in (0, 1), ended
    else:
        ended.failed(9, "file-unusable", "home directory", "`HOME`", requests=1)


@row("F07", "the home directory is read-only", "Uses a cache for this run only and says so", code=0)
def test_a_home_that_cannot_be_written_is_no_trouble(thing: World, plain: dict[str, Any]) -> None:
    thing.environment["MARFETCH_CACHE_DIR"] = None
    thing.home.chmod(0o555)
    try:
        ended = thing.run(*PULL, "--json", **plain).succeeded(made=MADE, requests=3)
        assert "cached for this run only" in ended.err
        assert list(thing.home.iterdir()) == []
    finally:
        thing.home.chmod(0o755)


@row("F07", "the current directory was deleted", "Works if the command does not need it, and names it otherwise", code=(0, 9))
def test_a_directory_that_is_gone_is_only_missed_where_it_is_needed(thing: World) -> None:
    gone = thing.root.parent / "gone"

    def started(*words: str) -> Ended:
        gone.mkdir(exist_ok=True)
        return thing.run(*words, cwd=gone, preexec_fn=lambda: os.rmdir(gone))  # noqa: PTH106 - runs between fork and exec, so keep it simple

    started(*PULL, "-d", str(thing.here / "out"), "--json").succeeded(made={"out/thing.txt": DATA}, requests=3)
    started("resolve", "aks/thing:1", "--json").succeeded(requests=1)
    started(*PULL, "--json").failed(9, "file-unusable", "`the current directory`", requests=1)
    assert not gone.exists()


@row(
    "F07",
    "`XDG_CACHE_HOME` with spaces and quotes; a relative path; a file",
    "Uses the first, ignores the second, and replaces the third by a cache for this run only",
    code=0,
)
def test_odd_places_for_caches_are_taken_or_passed_over(thing: World) -> None:
    odd = thing.here / "a place; $(touch evil) 'here'"
    thing.environment |= {"MARFETCH_CACHE_DIR": None, "XDG_CACHE_HOME": str(odd)}
    thing.run(*PULL, "-d", "one", "--json").succeeded(requests=3)
    assert (odd / "marfetch" / "index.json").is_file()
    thing.environment |= {"XDG_CACHE_HOME": "relative", "HOME": str(thing.here / "home")}
    thing.run(*PULL, "-d", "two", "--json").succeeded(requests=3)
    assert not (thing.here / "relative").exists()
    assert (thing.here / "home" / ".cache" / "marfetch" / "index.json").is_file()
    (thing.here / "file").write_text("mine")
    thing.environment["XDG_CACHE_HOME"] = str(thing.here / "file")
    ended = thing.run(*PULL, "-d", "three", "--json").succeeded(made={"three/thing.txt": DATA}, requests=3)
    assert "cached for this run only" in ended.err
    assert not (thing.here / "evil").exists()


@row("F07", "umask 077, 022 and 000", "Creates files with mode 0644 at most, directories with 0755, and the cache with 0700", code=0)
@pytest.mark.parametrize("mask", [0o077, 0o022, 0o000], ids=oct)
def test_the_mask_takes_rights_away_and_never_adds_any(world: World, mask: int) -> None:
    world.registry.add_artifact("aks/thing", "1", ("sub/thing.txt", DATA))
    (world.here / "marfetch.yaml").write_text("schema: 1\nartifacts: [{reference: 'aks/thing:1', destination: synced}]\n")
    world.run("pull", "aks/thing:1", "-d", "out", "--json", umask=mask).succeeded()
    world.run("lock", "--json", umask=mask).succeeded()
    world.run("sync", "--json", umask=mask).succeeded()
    world.registry.add_blob(b"{}")
    world.run("bundle", "create", "-o", "a.tar", "--json", umask=mask).succeeded()
    modes = {
        path: stat.S_IMODE((world.here / path).stat().st_mode)
        for path in ("out", "out/sub", "out/sub/thing.txt", "synced/sub/thing.txt", "a.tar")
    }
    wanted = {path: (0o755 if path in ("out", "out/sub") else 0o644) & ~mask for path in modes}
    if mask == 0:
        wanted["out"] = modes["out"]  # the destination itself may have the default mode of `mkdir`
        assert modes["out"] in (0o755, 0o777)
    assert {path: oct(mode) for path, mode in modes.items()} == {path: oct(mode) for path, mode in wanted.items()}
    assert oct(stat.S_IMODE(world.cache.stat().st_mode)) == oct(0o700)
    for path in world.here.rglob("*"):
        assert not path.stat().st_mode & stat.S_IWOTH & mask, path


# -- X01

WRONG: dict[str, tuple[str, int]] = {
    "a sign alone": ("@", 2),
    "nothing": ("", 2),
    "a space": (" ", 2),
    "upper case": ("Aks/Thing:1", 2),
    "300 characters in a part": ("a" * 300 + "/b", 2),
    "300 characters in a tag": ("aks/thing:" + "a" * 300, 2),
    "two dots": ("aks/../thing:1", 2),
    "dots alone": ("..", 2),
    "a space inside": ("aks/thing :1", 2),
    "a line feed": ("aks/thing:1\n", 2),
    "an escape": ("aks/\x1b[31mthing", 2),
    "a scheme alone": ("oci://", 2),
    "a file": ("file:///etc/passwd", 2),
    "a digest that is none": ("aks/thing@sha256:abc", 2),
    "a digest of another sort": ("aks/thing@md5:d41d8cd98f00b204e9800998ecf8427e", 2),
    "two tags": ("aks/thing:1:2", 2),
    "two slashes": ("aks//thing", 2),
    "a slash at the end": ("aks/thing/", 2),
    "a query": ("aks/thing?x=1", 2),
    "bytes that are no text": ("aks/\udcff\udcfe", 2),
    "a shell": ("$(touch evil)", 2),
    "a foreign registry": ("evil.example/aks/thing:1", 4),
    "a foreign registry behind oci": ("oci://evil.example/aks/thing:1", 4),
    "a user in front": ("mcr.microsoft.com@evil.example/aks/thing", 4),
    "an address of another machine": ("192.0.2.1:5000/aks/thing:1", 4),
    "a name that looks like MAR's": ("mcr.microsoft.com.evil.example/aks/thing", 4),
}


@row(
    "X01",
    "invalid references, and references to other registries",
    "Refuses each, says how to write one, and makes no request",
    code=(2, 4),
)
def test_an_invalid_reference_is_refused_without_a_request(thing: World) -> None:
    texts = [text for text, _ in WRONG.values()]
    ended = thing.run("pull", *texts, "--json")
    said = ended.document["data"]["failed"]
    assert len(said) == len(WRONG), ended
    for (name, (_, code)), one in zip(WRONG.items(), said, strict=True):
        assert one["exitCode"] in ({2, 4} if name == "a user in front" else {code}), (name, one)
        assert one["hint"], one
    ended.failed(2, "digest-invalid", "sha256:", requests=0)
    assert ended.contacts == []
    for text, word in (("aks/../thing:1", "reference-invalid"), ("evil.example/aks/thing:1", "host-refused")):
        thing.run("resolve", text, "--json").failed(dict(WRONG.values())[text], word, requests=0)


@row("X01", "an argument that looks like an option", "Reports an unknown option, or after `--` an invalid reference", code=2)
@pytest.mark.parametrize("text", ["-x", "--nonsense", "-rf", "--destination"])
def test_an_argument_that_looks_like_an_option_is_no_reference(thing: World, text: str) -> None:
    thing.run("pull", "--json", text).failed(2, "usage", text[:2], requests=0)
    thing.run("pull", "--json", "--", text).failed(2, "reference-invalid", requests=0)


# -- X02

ODD = {
    "HELM_PLUGIN_DIR": "/tmp/$(touch evil)",
    "HELM_NAMESPACE": "; touch evil",
    "HELM_BIN": "`touch evil`",
    "HELM_KUBECONTEXT": "$(touch evil)",
    "HELM_REGISTRY_CONFIG": "/nonexistent; touch evil",
    "HELM_PLUGIN_NAME": "x' || touch evil || '",
    "HELM_DEBUG": "$(touch evil)",
}


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """Return the plugin's folder, under a path with spaces and quotes."""
    place = tmp_path / "a plugin's $(touch evil) folder"
    place.mkdir()
    shutil.copytree(ROOT / "marfetch", place / "marfetch", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "plugin.yaml", place)
    return place


def launched(world: World, plugin: Path, *words: str, **environment: str | None) -> Ended:
    """Start the plugin as Helm does."""
    surroundings = {**world.surroundings(), **ODD, "MARFETCH_PYTHON": sys.executable, **environment}
    surroundings.pop("PYTHONPATH")
    line = ["sh", str(plugin / "marfetch" / "helm" / "launch"), *words]
    ended = ran(world, line, {name: value for name, value in surroundings.items() if value is not None})
    assert not list(world.root.rglob("evil")), ended
    assert not (plugin / "evil").exists()
    return ended


@row("X02", "`HELM_*` values and a path with spaces, quotes and shell commands", "Works, and runs none of the commands", code=0)
def test_the_plugin_runs_nothing_from_its_environment(thing: World, plugin: Path) -> None:
    assert launched(thing, plugin, "version").returncode == 0
    ended = launched(thing, plugin, *PULL, "-d", "a place; touch evil")
    assert ended.returncode == 0, ended
    assert (thing.here / "a place; touch evil" / "thing.txt").read_bytes() == DATA
    ended = launched(thing, plugin, "pull", "$(touch evil)", "`touch evil`")
    assert ended.returncode == 2, ended
    assert "reference" in ended.err or "grammar" in ended.err or "hint: " in ended.err
    address = f"mar://{thing.registry.host}/aks/$(touch evil)/index.yaml"
    ended = launched(thing, plugin, "getter", "", "", "", address)
    assert ended.returncode != 0
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1


@row(
    "X02",
    "no Python for the Helm plugin, or one that cannot be run",
    "Prints one line that says what to do",
    code=127,
)
@pytest.mark.parametrize("named", [None, "/nonexistent/python", "$(touch evil)"])
def test_a_plugin_without_a_python_says_what_to_do(thing: World, plugin: Path, named: str | None) -> None:
    ended = launched(thing, plugin, "version", MARFETCH_PYTHON=named, PATH="/usr/bin:/bin")
    assert ended.returncode == 127, ended
    assert ended.out == ""
    (line,) = ended.err.splitlines()
    assert line.startswith("marfetch: ")
    assert ("hook' install" in line) if named is None else (named in line)


@row("X02", "Helm 3 and Helm 4, with a plugin path with spaces and unusual environment values", "Works under both", code=0)
@pytest.mark.tool
@pytest.mark.parametrize("helm", ["helm3", "helm4"])
def test_both_helms_run_the_plugin_in_odd_surroundings(
    thing: World, tool: Callable[[str], Path], helm: str, tmp_path: Path, plugin: Path
) -> None:
    program = tool(helm)
    plugins = tmp_path / "the plugins; touch evil"
    plugins.mkdir()
    plugin.rename(plugins / "marfetch")
    home = thing.root.parent / "helm home"
    home.mkdir()
    environment = {
        **thing.surroundings(),
        "HELM_PLUGINS": str(plugins),
        "HELM_NAMESPACE": "; touch evil",
        "HELM_CACHE_HOME": str(home),
        "HELM_CONFIG_HOME": str(home),
        "HELM_DATA_HOME": str(home),
        "MARFETCH_PYTHON": sys.executable,
    }
    environment.pop("PYTHONPATH")
    ended = ran(thing, [str(program), "marfetch", "version"], environment)
    assert ended.returncode == 0, ended
    ended = ran(thing, [str(program), "marfetch", *PULL, "-d", "$(touch evil)"], environment)
    assert ended.returncode == 0, ended
    assert (thing.here / "$(touch evil)" / "thing.txt").read_bytes() == DATA
    ended = ran(thing, [str(program), "marfetch", "pull", "@"], environment)
    assert ended.returncode != 0
    assert "error: " in ended.err
    assert not list(tmp_path.rglob("evil"))


def test_the_values_would_do_harm_in_a_shell(tmp_path: Path) -> None:
    for value in ODD.values():
        subprocess.run(["sh", "-c", f"echo {value}"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=False)
    assert (tmp_path / "evil").exists()
    assert shlex.quote(ODD["HELM_NAMESPACE"]) != ODD["HELM_NAMESPACE"]
