"""The signed archive of a release: Helm 4 installs it with its verification on, from a file, from https and from a registry."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import trustme

from marfetch import __version__

from ..world.content import ALB
from ..world.gnupg import homes, new_key
from ..world.paths import ROOT
from ..world.real import distribution, run
from ..world.tls import server_context
from .homes import Home, Tool, user

ARCHIVE = f"marfetch-{__version__}.tgz"
KEY = "marfetch test <test@example.invalid>"


@pytest.fixture(scope="module")
def keys(tool: Tool) -> Iterator[Path]:
    """A home of GnuPG with a throw-away key; its public half is in `public.gpg`."""
    tool("gpg")
    with homes("signer") as (place,):
        new_key(place, KEY)
        run("gpg", "--batch", "--output", place / "public.gpg", "--export", KEY, GNUPGHOME=str(place))
        yield place


def released(into: Path, keys: Path | None, **environment: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(ROOT / "ci" / "release.py"), str(into), *(["--key", KEY] if keys else [])]
    variables = {"PATH": os.environ["PATH"], "HOME": str(into), "GNUPGHOME": str(keys or into), **environment}
    return subprocess.run(line, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def dist(keys: Path, tmp_path: Path) -> Path:
    done = released(tmp_path / "dist", keys)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [ARCHIVE, f"{ARCHIVE}.prov", "SHA256SUMS"]
    return tmp_path / "dist"


@pytest.fixture
def home(tool: Tool, tmp_path: Path) -> Iterator[Home]:
    with user(tool("helm4"), tmp_path / "a home") as one:
        yield one


def works(home: Home) -> None:
    assert home.run("marfetch", "version").stdout == f"marfetch {__version__}\n"
    home.run("pull", f"mar://{home.host}/{ALB}:1.7.12/alb-controller-1.7.12.tgz")
    assert (home.home / "alb-controller-1.7.12.tgz").is_file()
    assert (home.plugins / "marfetch-getter" / "plugin.yaml").is_file()


def test_helm_4_verifies_and_installs_the_archive_from_a_file(home: Home, dist: Path, keys: Path) -> None:
    done = home.run("plugin", "install", "--keyring", keys / "public.gpg", dist / ARCHIVE)
    assert "Installed plugin: marfetch" in done.stdout
    works(home)
    home.run("plugin", "verify", "--keyring", keys / "public.gpg", dist / ARCHIVE)


def test_helm_4_verifies_and_installs_the_archive_from_https(home: Home, dist: Path, keys: Path, ca: trustme.CA, ca_file: str) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(dist))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.socket = server_context(ca.issue_cert("localhost")).wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"https://localhost:{server.server_port}/{ARCHIVE}"
            home.run("plugin", "install", "--keyring", keys / "public.gpg", address, SSL_CERT_FILE=ca_file)
        finally:
            server.shutdown()
            thread.join()
    works(home)


def test_helm_4_verifies_and_installs_the_archive_from_a_registry(home: Home, dist: Path, keys: Path, tool: Tool, tmp_path: Path) -> None:
    with distribution(tool("registry"), tmp_path / "registry") as host:
        layers = [f"{name}:application/vnd.oci.image.layer.v1.tar" for name in (ARCHIVE, f"{ARCHIVE}.prov")]
        kind = "application/vnd.helm.plugin.v1+json"
        run(tool("oras"), "push", "--plain-http", "--artifact-type", kind, f"{host}/plugins/marfetch:{__version__}", *layers, cwd=dist)
        address = f"oci://{host}/plugins/marfetch:{__version__}"
        home.run("plugin", "install", "--plain-http", "--keyring", keys / "public.gpg", address)
    works(home)


def test_helm_4_refuses_what_was_changed_or_signed_by_another_key(home: Home, dist: Path, keys: Path, tmp_path: Path) -> None:
    none = tmp_path / "empty.gpg"
    none.touch()
    home.run("plugin", "install", "--keyring", none, dist / ARCHIVE, code=1)
    with (dist / ARCHIVE).open("ab") as file:
        file.write(b"\0")
    home.run("plugin", "install", "--keyring", keys / "public.gpg", dist / ARCHIVE, code=1)
    (dist / f"{ARCHIVE}.prov").unlink()
    home.run("plugin", "install", "--keyring", keys / "public.gpg", dist / ARCHIVE, code=1)
    assert "marfetch" not in home.run("plugin", "list").stdout


def test_the_archive_is_the_same_each_time_and_holds_what_the_plugin_needs(tmp_path: Path) -> None:
    for name in ("one", "two"):
        done = released(tmp_path / name, None, SOURCE_DATE_EPOCH="1700000000")
        assert done.returncode == 0
        assert "is not signed, so Helm 4 refuses it" in done.stderr
    assert (tmp_path / "one" / ARCHIVE).read_bytes() == (tmp_path / "two" / ARCHIVE).read_bytes()
    run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=tmp_path / "one")
    with tarfile.open(tmp_path / "one" / ARCHIVE) as archive:
        members = {one.name: one for one in archive}
    assert {one.mtime for one in members.values()} == {1_700_000_000}
    assert all(one.isfile() for one in members.values())
    assert next(name for name in members if name.endswith("/plugin.yaml")) == "marfetch/plugin.yaml"
    assert {name.partition("/")[0] for name in members} == {"marfetch"}
    paths = {name.removeprefix("marfetch/") for name in members}
    tracked = subprocess.run(
        ["git", "ls-files", "-s", "marfetch"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    modes = {line.partition("\t")[2]: line[:6] for line in tracked}
    assert set(modes) <= paths
    assert {path: members[f"marfetch/{path}"].mode for path in modes} == {path: int(mode[3:], 8) for path, mode in modes.items()}
    assert not [path for path in paths if path.endswith(".pyc")]


def test_a_key_that_is_not_there_ends_the_release(keys: Path, tmp_path: Path) -> None:
    line = [sys.executable, str(ROOT / "ci" / "release.py"), str(tmp_path / "dist"), "--key", "nobody@example.invalid"]
    done = subprocess.run(line, env={**os.environ, "GNUPGHOME": str(keys)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot sign" in done.stderr
    assert not (tmp_path / "dist" / f"{ARCHIVE}.prov").exists()
