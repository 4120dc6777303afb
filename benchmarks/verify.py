"""`python -m benchmarks.verify`: measure single verifications in a running process, and compare the whole command with notation.

The single verifications use the vectors of `fixtures/trust`. For the commands, notation signs a file in distribution's registry, 40 ms away.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from marfetch.oci import Descriptor, Digest
from marfetch.verify.policy import parse_policy
from marfetch.verify.revocation import Lists
from marfetch.verify.steps import TrustContext, examine
from marfetch.verify.truststore import Places
from tests.world import tools
from tests.world.real import run
from tests.world.signing import policy

from . import clients
from .measure import Contender, race, table
from .stage import ROOT, ROUND_TRIP, real_stage

FIXTURES = Path(__file__).parents[1] / "fixtures" / "trust"
RUNS = 200
WANTED = 0.010
"""Seconds for a COSE signature with a timestamp."""


def main() -> None:
    """Print a table; fail if a verification exceeds the time limit."""
    vectors = json.loads((FIXTURES / "cases.json").read_text())
    print(f"| vector | first | median of {RUNS} | slowest |\n|---|---|---|---|")
    medians = {}
    with tempfile.TemporaryDirectory() as place:
        for store, file in vectors["stores"].items():
            directory = Path(place) / "x509" / store.replace(":", "/")
            directory.mkdir(parents=True)
            shutil.copyfile(FIXTURES / file, directory / "root.crt")
        for case in vectors["cases"]:
            if not case["name"].startswith("ok-cli"):
                continue
            given = vectors["policies"][case["policy"]]
            statement = {"name": "a", "registryScopes": ["*"], "signatureVerification": {"level": "strict"}, **given}
            policy = parse_policy(json.dumps({"version": "1.0", "trustPolicies": [statement]}).encode(), "policy")
            trust = TrustContext(policy.statements[0], Places(stores=Path(place)), Lists(), datetime.fromisoformat(vectors["now"]))
            artifact = Descriptor(case["artifact"]["mediaType"], Digest.parse(case["artifact"]["digest"]), case["artifact"]["size"])
            data = (FIXTURES / case["envelope"]).read_bytes()
            times = []
            for _ in range(RUNS):
                begun = time.perf_counter()
                found = examine(data, case["layerMediaType"], artifact, trust)
                times.append(time.perf_counter() - begun)
                assert found.refusal is None, found.refusal
            medians[case["name"]] = statistics.median(times)
            columns = (times[0], medians[case["name"]], max(times))
            print(f"| {case['name']} | " + " | ".join(f"{1000 * one:.2f} ms" for one in columns) + " |")
    assert medians["ok-cli-rsa3072-ts-cose"] < WANTED


def compare(runs: int = 7) -> list[str]:
    """Return a table that compares `marfetch verify` with `notation verify`, with an empty cache."""
    notation = tools.find("notation")
    if notation is None:
        return [tools.missing("notation")]
    with real_stage([1], round_trip=ROUND_TRIP) as where:
        home = where.directory / "signing"
        host = where.host.replace("localhost", "127.0.0.1")  # notation uses plain http for localhost
        environment = {
            **where.environment(),
            "MARFETCH_ENDPOINT": f"https://{host}",
            "XDG_CONFIG_HOME": str(home),
            "XDG_CACHE_HOME": str(home),
            "PYTHONPATH": str(ROOT),
        }
        artifact = f"{host}/{clients.LARGE}:1"
        for words in (["cert", "generate-test", "--default", "bench"], ["sign", artifact]):
            run(notation, *words, cwd=None, **environment)
        trusted = policy(trustStores=["ca:bench"], trustedIdentities=["*"])
        (home / "notation" / "trustpolicy.json").write_text(json.dumps(trusted))
        contenders = [
            Contender("notation verify", lambda _: [str(notation), "verify", artifact], lambda _: None, environment),
            Contender(
                "marfetch verify",
                lambda place: [sys.executable, "-P", "-m", "marfetch", "verify", artifact, "--cache-dir", str(place / "cache")],
                lambda _: None,
                environment,
            ),
        ]
        race(contenders, where.directory, runs=runs)
        return table(contenders, "notation verify")


if __name__ == "__main__":
    main()
    print("\n" + "\n".join(compare()))
