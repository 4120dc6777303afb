"""Test environment of the benchmarks: a copy of MAR over TLS, behind a proxy that adds latency."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import trustme

from marfetch.artifact.kinds import HELM_CHART, HELM_CONFIG
from marfetch.demo.recipe import put_blob, tar_gz
from marfetch.layout.layout import Layout
from marfetch.oci import Descriptor, Digest, descriptor_json, parse_manifest
from marfetch.reference import Host, Reference
from tests.world import tools
from tests.world.real import distribution, free_port, run

ROOT = Path(__file__).parents[1]
CHARTS = 100
MANY = 2000
ROUND_TRIP = 40  # milliseconds
CHART_SIZE = 24 * 1024  # bytes of a medium-sized chart


@dataclass(frozen=True)
class Stage:
    """A running test registry.

    Attributes:
        host: host of the registry in references.
        data_host: host of its blobs.
        ca_file: certificate authority of its certificates.
        directory: scratch directory for the runs.
    """

    host: str
    data_host: str
    ca_file: Path
    directory: Path

    def environment(self) -> dict[str, str]:
        """Return the environment for clients: the certificate authority, and no user settings."""
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "SSL_CERT_FILE": str(self.ca_file),
            "MARFETCH_ENDPOINT": f"https://{self.host}",
            "MARFETCH_DATA_HOSTS": self.data_host,
        }


def fill(layout: Layout, charts: int = CHARTS) -> None:
    """Create medium-sized charts, and several versions of the first."""
    host = Host("bench.test")
    for number in range(charts):
        name = f"chart{number}"
        for version in ("1.2.3", "1.3.0", "2.0.0-rc.1") if number == 0 else ("1.2.3",):
            chart = tar_gz(
                {
                    f"{name}/Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: {version}\n".encode(),
                    f"{name}/data": secrets.token_bytes(CHART_SIZE),
                }
            )
            config = json.dumps({"name": name, "version": version, "apiVersion": "v2"}).encode()
            put_artifact(layout, Reference(f"bench/charts/{name}", host, version), [(HELM_CHART, chart, None)], (HELM_CONFIG, config))
    # One chart with very many tags, for long tag lists and indexes.
    first = layout.known(Reference("bench/charts/chart0", host, "1.2.3"))
    assert first is not None, "it was just put there"
    for number in range(MANY):
        layout.tag(Reference("bench/charts/many", host, f"1.{number // 50}.{number % 50}"), first)
    layout.names.flush()


def put_artifact(layout: Layout, reference: Reference, layers: list[tuple[str, bytes, str | None]], config: tuple[str, bytes]) -> None:
    def blob(media_type: str, data: bytes) -> Descriptor:
        descriptor = Descriptor(media_type, Digest.of(data), len(data))
        put_blob(layout, descriptor, data)
        return descriptor

    described = []
    for media_type, data, title in layers:
        document = descriptor_json(blob(media_type, data))
        if title:
            document["annotations"] = {"org.opencontainers.image.title": title}
        described.append(document)
    manifest = {"schemaVersion": 2, "config": descriptor_json(blob(*config)), "layers": described}
    parsed = parse_manifest(json.dumps(manifest, separators=(",", ":")).encode(), what=str(reference))
    layout.add(parsed)
    layout.tag(reference, parsed.descriptor)


@contextlib.contextmanager
def stage(*, round_trip: int, charts: int = CHARTS) -> Iterator[Stage]:
    """Start the test registry for the duration of the context.

    Args:
        round_trip: added latency in milliseconds; with 0, clients connect directly.
        charts: number of charts.
    """
    with tempfile.TemporaryDirectory(prefix="marfetch-bench-") as scratch, contextlib.ExitStack() as stack:
        directory = Path(scratch)
        certify(directory)
        layout = Layout(directory / "layout")
        fill(layout, charts)
        ports = [free_port() for _ in range(4)]
        registry, data = (ports[2], ports[3]) if round_trip else (ports[0], ports[1])
        served = [sys.executable, "-m", "benchmarks.served", str(directory), str(ports[0]), str(ports[1]), f"https://localhost:{data}"]
        started(stack, served)
        if round_trip:
            delayed(stack, round_trip, {f"127.0.0.1:{ports[2 + number]}": ports[number] for number in range(2)})
        yield Stage(f"localhost:{registry}", f"localhost:{data}", directory / "ca.pem", directory)


@contextlib.contextmanager
def real_stage(sizes: Sequence[int], *, round_trip: int = 0) -> Iterator[Stage]:
    """Start the registry of distribution over TLS, with large files.

    Args:
        sizes: file sizes in MiB, used as tags.
        round_trip: as for `stage`.
    """
    with tempfile.TemporaryDirectory(prefix="marfetch-bench-") as scratch, contextlib.ExitStack() as stack:
        directory = Path(scratch)
        certify(directory)
        tls = f"{{certificate: {directory / 'cert.pem'}, key: {directory / 'key.pem'}}}"
        program, oras = tools.find("registry"), tools.find("oras")
        if program is None or oras is None:
            sys.exit(tools.missing("registry"))
        with distribution(program, directory / "registry", tls=tls) as host:
            where = Stage(host, host, directory / "ca.pem", directory)
            for size in sizes:
                # In a separate process: the peak memory of this one would count as the peak of each child process.
                make = f"head -c {size << 20} /dev/urandom > file; $T push --plain-http=false $H/bench/large:{size} file; rm file"
                run("sh", "-ec", make, cwd=directory, **where.environment(), T=str(oras), H=host)
            if round_trip:
                port = free_port()
                delayed(stack, round_trip, {f"127.0.0.1:{port}": int(host.partition(":")[2])})
                where = replace(where, host=f"localhost:{port}", data_host=f"localhost:{port}")
            yield where


def delayed(stack: contextlib.ExitStack, round_trip: int, ports: dict[str, int]) -> None:
    """Add latency to some addresses.

    Args:
        ports: address for clients → port of the server.
    """
    program = tools.find("delay")
    if program is None:
        sys.exit(tools.missing("delay"))
    started(stack, [str(program), str(round_trip), *(f"{address}=127.0.0.1:{target}" for address, target in ports.items())])


def certify(directory: Path, *names: str) -> None:
    """Write a certificate authority and a certificate for localhost and some names."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    certificate = authority.issue_cert("localhost", "127.0.0.1", *names)
    for pem, name in ((certificate.private_key_pem, "key.pem"), (certificate.cert_chain_pems[0], "cert.pem")):
        pem.write_to_path(str(directory / name))


def started(stack: contextlib.ExitStack, line: list[str]) -> None:
    """Start a server, wait until it prints `up`, and stop it with the stack."""
    process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def end() -> None:
        process.terminate()
        process.communicate(timeout=10)

    stack.callback(end)
    assert process.stdout is not None
    if process.stdout.readline() != "up\n":
        sys.exit(f"{line[0]} did not come up")
    time.sleep(0.1)
