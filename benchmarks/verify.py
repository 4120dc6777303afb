"""Measure the time of one verification in a running process: `python -m benchmarks.verify` (vectors of `fixtures/trust`, no network)."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from marfetch.oci import Descriptor, Digest
from marfetch.verify.policy import parse_policy
from marfetch.verify.revocation import Lists
from marfetch.verify.steps import TrustContext, examine
from marfetch.verify.truststore import Places

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


if __name__ == "__main__":
    main()
