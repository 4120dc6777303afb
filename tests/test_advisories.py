"""Known vulnerabilities of similar tools and of dependencies: each has a test or a minimum version (`docs/security/`)."""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import json
import re
import tomllib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import marfetch
from marfetch.budget import Budget
from marfetch.chart.expected import ExpectedChart
from marfetch.client.pull import PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session
from marfetch.document import MAX_DEPTH
from marfetch.endpoint import GLOBAL, Address
from marfetch.errors import Error, InputError, IntegrityError, PolicyError
from marfetch.reference import Reference
from marfetch.remote.certificates import TrustedCertificates
from marfetch.remote.transport import Transport
from marfetch.verify.revocation import Lists, cache_entry

from .world.archives import chart, file, targz
from .world.charts import add_chart
from .world.content import ALB, source_of
from .world.paths import ROOT
from .world.promise import guarded, sandbox
from .world.registry import Registry
from .world.unpacking import seen, unpack

PACKAGE = Path(marfetch.__file__).parent
PAGES = {name: (ROOT / "docs" / "security" / f"{name}.md").read_text() for name in ("advisories", "threat-model")}

KNOWN = """
CVE-2007-4559 CVE-2017-11468 CVE-2017-18342 CVE-2018-18074 CVE-2018-20060 CVE-2019-1000008 CVE-2019-10214 CVE-2019-1010275 CVE-2019-18658
CVE-2019-20916 CVE-2020-11013 CVE-2020-14343 CVE-2020-15157 CVE-2020-15184 CVE-2020-15185 CVE-2020-15186 CVE-2020-15187 CVE-2020-1747
CVE-2020-4053 CVE-2021-21272 CVE-2021-21303 CVE-2021-32690 CVE-2021-3737 CVE-2021-41131 CVE-2021-41190 CVE-2022-23524 CVE-2022-23525
CVE-2022-23526 CVE-2022-36055 CVE-2023-2253 CVE-2023-25153 CVE-2023-25165 CVE-2023-25656 CVE-2023-32681 CVE-2023-33957 CVE-2023-33958
CVE-2023-33959 CVE-2023-43804 CVE-2024-12718 CVE-2024-23332 CVE-2024-25620 CVE-2024-26147 CVE-2024-35195 CVE-2024-3727 CVE-2024-37891
CVE-2024-47081 CVE-2024-51491 CVE-2024-56138 CVE-2025-13836 CVE-2025-24976 CVE-2025-32386 CVE-2025-32387 CVE-2025-4138 CVE-2025-4330
CVE-2025-4435 CVE-2025-4517 CVE-2025-50181 CVE-2025-53547 CVE-2025-55198 CVE-2025-55199 CVE-2025-66418 CVE-2025-66471 CVE-2025-8194
CVE-2025-8869 CVE-2026-11940 CVE-2026-1502 CVE-2026-1703 CVE-2026-19672 CVE-2026-21441 CVE-2026-25645 CVE-2026-33540 CVE-2026-35172
CVE-2026-35204 CVE-2026-35205 CVE-2026-35206 CVE-2026-41888 CVE-2026-4360 CVE-2026-44431 CVE-2026-44432 CVE-2026-48978 CVE-2026-49349
CVE-2026-50151 CVE-2026-50162 CVE-2026-50163 CVE-2026-6100 CVE-2026-87910 GHSA-28r5-37g7-p6mp GHSA-5j5w-g665-5m35 GHSA-f36w-mj3v-6jqv
GHSA-g5v4-5x39-vwhx GHSA-qq97-vm5h-rrhg GHSA-qv35-3gw6-8q4j GHSA-vh4v-2xq2-g5cg gh-150743
"""
"""The known advisories, which must be in the table."""


# -- the pages


def rows(page: str) -> Iterator[list[str]]:
    """Yield the cells of each row in the tables of the page, without the headers."""
    for line in PAGES[page].splitlines():
        if line.startswith("| ") and not line.startswith(("| advisory", "| who", "| threat")):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_every_known_advisory_is_in_the_table_once() -> None:
    found = [name for cells in rows("advisories") for name in cells[0].split(", ")]
    assert sorted(found) == sorted(KNOWN.split())
    assert all(len(cells) == 4 and all(cells) for cells in rows("advisories"))


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def held(page: str) -> list[str]:
    """Return the tests and requirements in the last column of a page, each once."""
    return list(dict.fromkeys(name for cells in rows(page) for name in re.findall(r"`([^`]+)`", cells[-1])))


@pytest.mark.parametrize("name", [*held("advisories"), *held("threat-model")])
def test_every_test_and_version_in_a_table_exists(name: str) -> None:
    path, mark, test = name.partition("::")
    if not mark:
        # A minimum version: pyproject.toml has exactly this requirement.
        wanted = Requirement(name)
        asked = {
            Requirement(one).name: Requirement(one)
            for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        }
        assert str(asked[wanted.name].specifier) == str(wanted.specifier)
        return
    function, bracket, case = test.partition("[")
    assert function in functions(ROOT / path), f"no such test: {name}"
    if bracket:
        # The name of a parametrized case must occur in the file.
        assert f'"{case.removesuffix("]")}"' in (ROOT / path).read_text(), f"no such case: {name}"


def test_the_lock_holds_nothing_below_a_floor() -> None:
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", (ROOT / "requirements" / "runtime.lock").read_text(), re.MULTILINE))
    for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]:
        requirement = Requirement(one)
        assert requirement.specifier.contains(locked[requirement.name]), one


@pytest.mark.parametrize("name", list(dict.fromkeys(name for cells in rows("threat-model") for name in re.findall(r"`([^`]+)`", cells[2]))))
def test_the_modules_of_the_threat_model_are_there(name: str) -> None:
    parts = name.split(".")
    path = PACKAGE.joinpath(*parts)
    assert path.is_dir() or path.with_suffix(".py").is_file(), name


def test_the_threat_model_looks_at_everybody_who_can_lie() -> None:
    heads = re.findall(r"^## (.+)$", PAGES["threat-model"], re.MULTILINE)
    wanted = {"registry", "data host", "proxy", "mirror", "bundle", "author", "user", "environment", "client of `serve`"}
    assert {word for word in wanted if not any(word in head.lower() for head in heads)} == set()
    assert len(list(rows("threat-model"))) >= 40


# -- tests only for advisories


def test_schemas_and_templates_of_a_chart_are_bytes() -> None:
    """They are unpacked unchanged. Meanwhile, marfetch sends no requests, looks up no names, and opens no other files."""
    schema = json.dumps({"$ref": "file:///dev/zero", "allOf": [{"$ref": "https://evil.example/"}]}).encode() + b"[" * 100 * MAX_DEPTH
    template = b'{{ lookup "v1" "Secret" "kube-system" "x" }}{{ getHostByName "evil.example" }}'
    data = chart("toy", "1.2.3", file("toy/values.schema.json", schema), file("toy/templates/x.yaml", template))
    place = sandbox() / hashlib.sha256(schema).hexdigest()
    with guarded():
        unpack(place, data, ExpectedChart("toy", "1.2.3"))
    found = seen(place)
    assert (found["toy/values.schema.json"], found["toy/templates/x.yaml"]) == (schema, template)


@pytest.fixture
def get(client: Callable[..., Session], tmp_path: Path) -> Callable[[str], object]:
    def fetch(text: str) -> object:
        with client() as one:
            result = pull(one, [Wanted(Reference.parse(text))], PullOptions(tmp_path / "out", untar=Path()))
            return result.failed[0].error if result.failed else None

    return fetch


def test_nothing_is_fetched_or_named_for_the_dependencies_of_a_chart(mar: Registry, get: Callable[[str], object], tmp_path: Path) -> None:
    text = b"apiVersion: v2\nname: toy\nversion: 1.2.3\ndependencies:\n- {name: x, alias: ../../y, version: 1.0.0, repository: https://evil.example}\n"
    lock = b"dependencies:\n- {name: ../z, repository: file:///etc}\n"
    data = targz(file("toy/Chart.yaml", text), file("toy/Chart.lock", lock))
    add_chart(mar, "aks/toy", "1.2.3", data)
    assert get("aks/toy:1.2.3") is None
    assert mar.kinds() == ["manifest", "blob", "data"]
    assert seen(tmp_path / "out") == {"toy": None, "toy/Chart.yaml": text, "toy/Chart.lock": lock}


@pytest.mark.parametrize("version", ["../../x", "/etc/x", "1.2.3/../../x", "1.2.3\\..\\x", "..", "1.2.3-../x"])
def test_a_version_that_leads_elsewhere_names_no_file(tmp_path: Path, version: str) -> None:
    data = targz(file("toy/Chart.yaml", f"apiVersion: v2\nname: toy\nversion: '{version}'\n".encode()))
    (tmp_path / "out").mkdir()
    with pytest.raises(PolicyError) as caught:
        unpack(tmp_path / "out", data, ExpectedChart("toy", "1.2.3"))
    assert caught.value.code == "chart-refused"
    assert seen(tmp_path) == {"home": None, "out": None}
    # Without a requested version, the version in the chart is still not used in any path.
    assert unpack(tmp_path / "out", data, ExpectedChart("toy")) == tmp_path / "out" / "toy"
    assert set(seen(tmp_path)) == {"home", "out", "out/toy", "out/toy/Chart.yaml"}


NAMES = {
    "tarfile": {"TarInfo", "GNU_FORMAT"},  # only writes the header of a file in a bundle
    "zipfile": set(),
    "shutil": {"rmtree", "which", "disk_usage", "get_terminal_size", "copyfile", "copyfileobj"},
    "pickle": set(),
    "marshal": set(),
    "netrc": set(),
    "xml": set(),
}
"""Module → the names that marfetch may use from it."""
CALLS = {"eval", "exec", "commonprefix", "unpack_archive", "extractall", "mktemp", "system", "popen"}
WORDS = (
    "Content-Disposition",
    "CERT_NONE",
    "verify=False",
    "shell=True",
    "yaml.load(",
    "unsafe_load",
    "allow_redirects=True",
    "decode_content=True",
)


@pytest.mark.slow
def test_vulnerable_functions_are_not_used() -> None:
    # `demo/recipe.py` writes archives with `tarfile`, only from trusted texts.
    for path in sorted({*PACKAGE.rglob("*.py")} - {PACKAGE / "demo" / "recipe.py"}):
        text = path.read_text()
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level:
                top = (node.module or "").partition(".")[0]
                assert top not in NAMES or {alias.name for alias in node.names} <= NAMES[top], f"{path}: {node.module}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in NAMES:
                assert node.attr in NAMES[node.value.id], f"{path}, line {node.lineno}: {node.value.id}.{node.attr}"
            if isinstance(node, ast.Import):
                unused = {
                    alias.name for alias in node.names if alias.name.partition(".")[0] in NAMES and not NAMES[alias.name.partition(".")[0]]
                }
                assert not unused, f"{path}: {unused}"
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert called not in CALLS, f"{path}, line {node.lineno}: {called}"
        # The doctor reads an untrusted certificate to show its issuer, and sends nothing (`tests/doctor/test_examine.py`).
        found = [word for word in WORDS if word in text and (word, path.name) != ("CERT_NONE", "probe.py")]
        assert not found, f"{path}: {found}"


def test_the_body_of_a_redirect_is_not_decoded(mar: Registry, client: Callable[..., Session]) -> None:
    bomb = gzip.compress(bytes(64 << 20), 9)
    assert len(bomb) > 60_000
    head = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://evil.example/\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    mar.on("manifest").sends(head % len(bomb) + bomb)
    reference, source = source_of(client(), Reference.parse(f"{ALB}:1.7.12"))
    tracemalloc.start()
    try:
        with pytest.raises(PolicyError) as caught:
            source.manifest(reference)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == "host-refused"
    assert peak < 16 << 20


def test_trailers_without_end_are_refused_at_once(mar: Registry, client: Callable[..., Session]) -> None:
    """Python's `http.client` reads trailers as long as lines arrive."""
    begin = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nf\r\n{"tags": ["1"]}\r\n0\r\n'
    mar.on("tags").sends(begin, then=b"X: y\r\n" * 400)
    reference, source = source_of(client(), Reference.parse(ALB))
    with pytest.raises(IntegrityError, match="trailers") as caught:
        source.tags(reference)
    assert caught.value.code == "malformed"
    assert len(mar.asked) == 1


LINES = ["\r\nX: y", "\n", "\r", "%0d%0aX:%20y", "\x85", "\u2028"]


@pytest.mark.parametrize("line", LINES, ids=repr)
def test_no_line_feed_gets_into_what_a_proxy_is_asked(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PolicyError):
        Address.parse(f"https://mcr.microsoft.com{line}/v2/")
    with pytest.raises(Error):
        Reference.parse(f"mcr.microsoft.com{line}/aks/foo:1")
    monkeypatch.setenv("HTTPS_PROXY", f"http://proxy.example{line}:3128")
    transport = Transport(GLOBAL, Budget(), TrustedCertificates())
    try:
        with pytest.raises(InputError):
            transport.proxy(GLOBAL.registry)
    finally:
        transport.close()


def test_a_broken_cache_of_lists_denies_nothing(tmp_path: Path) -> None:
    url = "http://crl.test/a.crl"
    name = hashlib.sha256(url.encode()).hexdigest()
    caches = [tmp_path / kind for kind in ("broken", "missing", "directory", "right")]
    for cache in caches:
        cache.mkdir()
    (caches[0] / name).write_bytes(b'{"baseCRL":"?')
    (caches[2] / name).mkdir()
    (caches[3] / name).write_bytes(cache_entry(b"list"))
    assert Lists(caches=caches).cached(url) == [[b"list"]]
    assert Lists(caches=caches[:3]).cached(url) == []


def test_the_stream_of_an_archive_is_never_read_whole() -> None:
    """The decompressor returns one limited piece at a time, so it cannot use up the memory."""

    class Counting(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert size > 0, "the stream is read at once"
            Counting.largest = max(Counting.largest, size)
            return super().read(size)

    from marfetch.chart.expected import Unpacking
    from marfetch.destination.archive import Archive
    from marfetch.oci import Descriptor, Digest

    data = targz(file("x", bytes(5 << 20)))
    with Archive(Counting(data), Descriptor("a/b", Digest.of(data), len(data)), Unpacking("x.tgz")) as archive:
        for _ in archive:
            assert max(map(len, archive.pieces())) <= 1 << 20
    assert 0 < Counting.largest <= 1 << 20
