"""The environment of the fault tests: a misbehaving registry, a directory with a file, and marfetch as a separate process.

    ended = world.run("pull", "aks/foo:1", "--json")
    ended.failed(7, "cut", "1000 of 5000 bytes", requests=6)
    world.recovers("pull", "aks/foo:1", made={"foo.bin": data})

After each command, `World.sweep` checks the files, the cache, the output, the contacted hosts and the memory, in every test.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from marfetch.endpoint import DATA_ENVIRONMENT, ENVIRONMENT

from .command import surroundings
from .proxy import Proxy
from .registry import Asked, Knob, Registry

LAUNCHER: Final = Path(__file__).parent / "launcher.py"
BRIEF: Final = {"FIRST_WAIT": 0.01, "LONGEST_WAIT": 0.05}
"""Limits that shorten the waits before retries. All other limits are the real ones, so that tests also pass on a busy machine."""
MOST_MEMORY: Final = 300 << 20
"""Maximum memory of a command in bytes, whatever a server sends."""
STEERING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Characters that must never be printed, because they control a terminal or reorder text."""
PARTIAL: Final = re.compile(r"\.marfetch-.*", re.IGNORECASE)
"""Temporary files of marfetch beside a final name."""


@dataclass(frozen=True)
class Entry:
    """The state of a file, a directory or a link."""

    mode: int
    changed: int
    content: str

    @classmethod
    def of(cls, path: Path) -> Entry:
        """Return the state of the path."""
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            return cls(found.st_mode, 0, f"-> {path.readlink()}")
        if not stat.S_ISREG(found.st_mode):
            return cls(found.st_mode, 0, "")
        with path.open("rb") as file:
            return cls(found.st_mode, found.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest())

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return stat.S_ISDIR(self.mode)


def tree(root: Path) -> dict[str, Entry]:
    """Return the state of everything below a directory, by relative path, without following links."""
    found = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            found[path.relative_to(root).as_posix()] = Entry.of(path)
    return found


def sha256(data: bytes) -> str:
    """Return the SHA-256 of these bytes in hex, as in `Ended.files`."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Ended:
    """A finished command, with its output and the files it left.

    Attributes:
        files: new and changed files in the directory of the command: path → SHA-256.
        partial: partial blobs in the cache: path below the cache → size.
        asked: the requests that the registry received.
        contacts: the hosts that were connected to, and the names that were looked up.
        peak: the peak memory in bytes.
        received: number of bytes received from servers, including headers.
    """

    words: tuple[str, ...]
    returncode: int
    out: str
    err: str
    files: dict[str, str]
    partial: dict[str, int]
    asked: list[Asked]
    contacts: list[tuple[str, str]]
    peak: int
    received: int
    seconds: float

    def __str__(self) -> str:
        asked = "\n  ".join(f"{one} {one.headers.get('range', '')}" for one in self.asked[:40])
        return (
            f"marfetch {' '.join(self.words)}\nexit code {self.returncode} after {self.seconds:.1f} s, {self.peak >> 20} MiB\n"
            f"{self.out[:4000]}{self.err[:4000]}files: {self.files}\npartial: {self.partial}\nasked ({len(self.asked)}):\n  {asked}"
        )

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object on stdout."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self
        document: dict[str, Any] = json.loads(lines[0])
        return document

    @property
    def error(self) -> dict[str, Any]:
        """The error in the JSON object."""
        error: dict[str, Any] = self.document["error"]
        return error

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The errors of the references that failed, in order."""
        failures: list[dict[str, Any]] = self.document["data"]["failed"]
        return failures

    @property
    def kinds(self) -> list[str]:
        """The kinds of the requests that the registry received, in order."""
        return [asked.kind for asked in self.asked]

    def succeeded(self, *, made: Mapping[str, bytes] | None = None, requests: int | None = None, within: float | None = None) -> Ended:
        """Check that the exit code is 0.

        Args:
            made: the new files; None: any files.
            requests: the maximum number of requests.
            within: the maximum duration in seconds.
        """
        assert self.returncode == 0, self
        self._check(made, requests, within)
        return self

    def failed(
        self,
        exit_code: int,
        code: str | None = None,
        *gist: str,
        made: Mapping[str, bytes] | None = None,
        requests: int | None = None,
        within: float | None = None,
    ) -> Ended:
        """Check that the command failed with this exit code.

        Args:
            code: the expected `error.code`, for a command with `--json`.
            gist: texts that the message or the hint must contain, ignoring case.
            made: the new files; None: no files.
            requests: the maximum number of requests.
            within: the maximum duration in seconds.
        """
        assert self.returncode == exit_code, self
        assert "error: " in self.err, self
        said = self.err
        if "--json" in self.words:
            assert code is not None
            assert self.error["code"] == code, self
            assert self.error["exitCode"] == exit_code, self
            said += f"{self.error['message']} {self.error['hint']}"
        for words in gist:
            assert words.lower() in said.lower(), f"`{words}` is not in the message: {self}"
        self._check(made or {}, requests, within)
        return self

    def _check(self, made: Mapping[str, bytes] | None, requests: int | None, within: float | None) -> None:
        if made is not None:
            assert self.files == {name: sha256(data) for name, data in made.items()}, self
        if requests is not None:
            assert len(self.asked) <= requests, [str(asked) for asked in self.asked]
        if within is not None:
            assert self.seconds < within, self


@dataclass
class World:
    """The environment of a fault test: a registry that can misbehave, and marfetch as a process.

    Attributes:
        root: the directory with `here` (the current directory of commands), `cache`, `home`, `tmp`, and `outside`, which must not change.
        environment: additional environment variables; None removes a variable.
        allowed: the allowed connections, as `host:port`; IPv6 addresses have no brackets.
        names: the host names that may be looked up.
        secrets: texts that must never be shown or stored.
        programs: the programs that may be started.
        patience: replaced constants of `marfetch.remote.limits`. By default, only the waits before retries are shortened.
    """

    registry: Registry
    root: Path
    environment: dict[str, str | None] = field(default_factory=dict)
    allowed: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    secrets: list[str] = field(default_factory=list)
    programs: set[str] = field(default_factory=set)
    patience: dict[str, float] = field(default_factory=lambda: dict(BRIEF))
    codes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for path in (self.here, self.home, self.temporary, self.root / "outside"):
            path.mkdir(parents=True)
        (self.here / "before.txt").write_text("was here before\n")
        (self.root / "outside" / "kept.txt").write_text("must stay unchanged\n")
        self.allowed |= {self.registry.host, self.registry.data_host}
        self.secrets += [self.registry.signature, *re.findall(r"(?:^|&)sig=([^&]+)", self.registry.signature)]

    @property
    def here(self) -> Path:
        """The current directory of commands."""
        return self.root / "here"

    @property
    def cache(self) -> Path:
        """The cache directory of commands."""
        return self.root / "cache"

    @property
    def home(self) -> Path:
        """The home directory of the user."""
        return self.root / "home"

    @property
    def temporary(self) -> Path:
        """The directory for temporary files."""
        return self.root / "tmp"

    def secret(self, text: str) -> str:
        """Add a secret that must not be shown or stored from now on."""
        self.secrets.append(text)
        return text

    def artifact(self, repository: str, data: bytes, *, name: str | None = None) -> Knob:
        """Add an artifact with the tag `1` and one file. By default, the file is named after the repository.

        Returns:
            A knob for the data host's responses for its blob.
        """
        self.registry.add_artifact(repository, "1", (name or f"{repository.rpartition('/')[2]}.bin", data))
        return self.on_data(data)

    def on_data(self, data: bytes) -> Knob:
        """Return a knob for the data host's responses for the blob with these bytes."""
        return self.registry.on("data", sha256(data))

    def surroundings(self) -> dict[str, str]:
        """Return the environment variables of a command."""
        plain: dict[str, str | None] = {
            **surroundings(self.registry, self.cache),
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "LC_ALL": "C.UTF-8",
            "XDG_STATE_HOME": str(self.root / "state"),
        }
        return {name: value for name, value in (plain | self.environment).items() if value is not None}

    def command(
        self, *words: str, record: Path, limits: Mapping[str, float] | None = None, clock: float = 0
    ) -> tuple[list[str], dict[str, str]]:
        """Return a command line that runs marfetch with the launcher, and its environment, for tests that start the process themselves.

        Args:
            record: the file in which the launcher records contacts and memory.
            limits: replaces `patience`; `{}` for the real limits.
            clock: the error of the clock in seconds.
        """
        launch = {"limits": dict(self.patience if limits is None else limits), "clock": clock, "record": str(record)}
        return [sys.executable, str(LAUNCHER), *words], {**self.surroundings(), "LAUNCH": json.dumps(launch)}

    def run(
        self,
        *words: str,
        limits: Mapping[str, float] | None = None,
        clock: float = 0,
        within: float = 90,
        replaces: Sequence[str] = (),
        memory: int = MOST_MEMORY,
        **options: Any,
    ) -> Ended:
        """Run marfetch to its end, and check its output and files.

        Args:
            limits: replaces `patience`; `{}` for the real limits.
            clock: the error of the clock in seconds.
            within: the time limit in seconds.
            replaces: existing files that the command may replace or remove.
            memory: the maximum memory in bytes.
            options: passed to `subprocess.run`.
        """
        record = self.root.parent / f"record-{len(self.codes)}"
        line, environment = self.command(*words, record=record, limits=limits, clock=clock)
        before, asked = tree(self.root), len(self.registry.asked)
        started = time.monotonic()
        settings: dict[str, Any] = {"cwd": self.here, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        done = subprocess.run(line, timeout=within, check=False, **{"stdin": subprocess.DEVNULL, **settings, **options})
        seconds = time.monotonic() - started
        self.codes.append(done.returncode)
        events = [json.loads(event) for event in record.read_text().splitlines()]
        measured = {event: who for event, who in events if isinstance(who, int)}
        after = tree(self.root)
        ended = Ended(
            words=words,
            returncode=done.returncode,
            out=(done.stdout or b"").decode(errors="backslashreplace"),
            err=(done.stderr or b"").decode(errors="backslashreplace"),
            files=_new(before, after, "here/"),
            partial={name: (self.cache / name).stat().st_size for name in _below(after, "cache/") if name.startswith("ingest/")},
            asked=self.registry.asked[asked:],
            contacts=[(event, who) for event, who in events if isinstance(who, str)],
            peak=measured.get("peak", 0),
            received=measured.get("received", 0),
            seconds=seconds,
        )
        self._sweep(ended, before, after, replaces, memory)
        return ended

    def recovers(self, *words: str, made: Mapping[str, bytes], **options: Any) -> Ended:
        """Make the registry honest again, and check that the next run succeeds, resumes partial blobs, and leaves no partial files.

        Args:
            made: the expected new files.
            options: passed to `run`.
        """
        self.registry.honestly()
        held = {path.name: path.stat().st_size for path in (self.cache / "ingest").glob("*-*")} if self.cache.exists() else {}
        ended = self.run(*words, **options).succeeded(made=made)
        assert ended.partial == {}, ended
        ranges = {asked.headers.get("range") for asked in ended.asked if asked.kind == "data"}
        for name, size in held.items():
            assert size == 0 or f"bytes={size}-" in ranges or not _asks_for(ended, name), (
                f"{size} downloaded bytes of {name} were not resumed: {ended}"
            )
        return ended

    # -- checking the remaining files

    def sweep(self, ended: Ended, before: dict[str, Entry]) -> None:
        """Check the output and files of a command that a test has started itself.

        Args:
            before: the `tree` of the root before the command started.
        """
        self._sweep(ended, before, tree(self.root), (), MOST_MEMORY)

    def _sweep(self, ended: Ended, before: dict[str, Entry], after: dict[str, Entry], replaces: Sequence[str], memory: int) -> None:
        self._sweep_files(ended, before, after, replaces)
        self._sweep_cache(ended, before, after)
        self._sweep_words(ended, before, after)
        for event, who in ended.contacts:
            assert self._is_allowed(event, who), f"{event} {who}: {ended}"
        assert ended.peak < memory, f"{ended.peak >> 20} MiB: {ended}"

    def _sweep_files(self, ended: Ended, before: dict[str, Entry], after: dict[str, Entry], replaces: Sequence[str]) -> None:
        """Check that existing files are unchanged, no file is half-written, and nothing else was written except the cache and the state."""
        for name, entry in before.items():
            if name.startswith(("cache/", "state/", "here/")) and (
                name.startswith(("cache/", "state/")) or name.removeprefix("here/") in replaces
            ):
                continue
            now = after.get(name)
            assert now == entry, f"`{name}` was changed: {ended}"
        for name in after.keys() - before.keys():
            assert name.startswith(("here/", "cache/", "state/")) or name in ("cache", "state"), f"`{name}` was created: {ended}"
            assert not (name.startswith("here/") and PARTIAL.fullmatch(Path(name).name)), f"`{name}` was left: {ended}"

    def _sweep_cache(self, ended: Ended, before: dict[str, Entry], after: dict[str, Entry]) -> None:
        """Check that each blob matches its name, and that partial blobs remain only after a failure, where a later run finds them."""
        for name, entry in _below(after, "cache/").items():
            if name.startswith("blobs/") and not entry.is_directory and before.get(f"cache/{name}") != entry:
                algorithm, encoded = name.split("/")[1:]
                actual = hashlib.new(algorithm, (self.cache / name).read_bytes()).hexdigest()
                assert actual == encoded, f"the cache holds `{name}` with other content: {ended}"
        for name in ended.partial:
            assert re.fullmatch(r"ingest/sha(256|512)-[0-9a-f]+", name), f"`{name}` was left: {ended}"
            assert ended.returncode != 0 or f"cache/{name}" in before, f"`{name}` was left: {ended}"

    def _sweep_words(self, ended: Ended, before: dict[str, Entry], after: dict[str, Entry]) -> None:
        """Check that the output is printable, is one JSON object with `--json`, and that neither it nor any file contains a secret."""
        assert "Traceback" not in ended.err, ended
        for text in (ended.out, ended.err):
            assert STEERING.search(text) is None, ended
        if "--json" in ended.words:
            assert ended.document["ok"] is (ended.returncode in (0, 1)), ended
        stored = {"stdout": ended.out.encode(), "stderr": ended.err.encode()}
        for name, entry in after.items():
            if before.get(name) != entry and stat.S_ISREG(entry.mode):
                stored[name] = (self.root / name).read_bytes()
        for place, data in stored.items():
            for secret in self.secrets:
                assert secret.encode() not in data, f"{place} contains the secret `{secret}`: {ended}"
        assert not any(secret in name for secret in self.secrets for name in after), ended

    def _is_allowed(self, event: str, who: str) -> bool:
        """Whether a host may be connected to, a name resolved, or a program started; addresses need no resolving."""
        if event == "socket.connect":
            found = re.match(r"\('([^']*)', (\d+)", who)
            return found is not None and f"{found[1]}:{found[2]}" in self.allowed
        if event == "subprocess.Popen":
            return Path(who).name in self.programs or who in self.programs
        return who in self.names or who in {one.rpartition(":")[0] for one in self.allowed}


def official_world(registry: Registry, proxy: Proxy, root: Path, ca_file: str) -> World:
    """Return an environment with MAR's host names. Only this proxy leads to the registry."""
    world = World(registry, root, {ENVIRONMENT: None, DATA_ENVIRONMENT: None, "SSL_CERT_FILE": ca_file})
    world.environment["HTTPS_PROXY"] = f"http://127.0.0.1:{proxy.port}"
    world.allowed.clear()
    world.allowed.add(f"127.0.0.1:{proxy.port}")
    return world


def _below(entries: dict[str, Entry], start: str) -> dict[str, Entry]:
    return {name.removeprefix(start): entry for name, entry in entries.items() if name.startswith(start) and not entry.is_directory}


def _new(before: dict[str, Entry], after: dict[str, Entry], start: str) -> dict[str, str]:
    return {name: entry.content for name, entry in _below(after, start).items() if before.get(start + name) != entry}


def _asks_for(ended: Ended, part: str) -> bool:
    """Return whether the blob of this partial file was requested."""
    return any(part.rpartition("-")[2] in asked.target for asked in ended.asked)
