"""Ten real references of MAR, and the questions that only MAR can answer. `make live` runs this; CI never does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from marfetch.budget import Budget
from marfetch.remote.certificates import TrustedCertificates
from marfetch.remote.crl import fetch_list
from marfetch.verify.truststore import ROOTS

from ..world.paths import ROOT
from .transcript import Transcript

pytestmark = pytest.mark.network

TRANSCRIPT = ROOT / ".tmp" / "live-transcript.json"
SIGNED = "dotnet/sdk:9.0"
MICROSOFT = ROOT / ".tmp" / "microsoft-roots"
"""The directory with Microsoft's root certificates, for `marfetch trust add-microsoft`. It is kept for later runs."""
REFERENCES = {
    "application-lb/charts/alb-controller:1.7.12": "alb-controller-1.7.12.tgz",
    "azure-application-gateway/charts/ingress-azure:1.9.1": "ingress-azure-1.9.1.tgz",
    "k8s/azureserviceoperator/helmchart/azure-service-operator:v2.9.0": "azure-service-operator-2.9.0.tgz",
    "azurearck8s/batch1/stable/azure-arc-k8sagents:1.4.0": "azure-arc-k8sagents-1.4.0.tgz",
    "bicep/avm/res/storage/storage-account:0.14.0": "storage-account-0.14.0.json",
    "bicep/extensions/microsoftgraph/v1.0:0.1.9-preview": ".tgz",
    "psresource/az.accounts:5.3.0": "az.accounts.5.3.0.nupkg",
    "azurecleanroom/cli/cleanroom-whl:8.0.0": "",
    "oss/binaries/kubernetes/kubernetes-node:v1.30.0-linux-amd64": "",
}
IMAGE = "dotnet/aspnet:6.0-bookworm-slim-amd64"


def marfetch(*arguments: str) -> tuple[int, dict[str, object]]:
    line = [sys.executable, "-m", "marfetch", *arguments, "--json", "--timeout", "120"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize(("reference", "ending"), REFERENCES.items(), ids=REFERENCES)
def test_a_real_artifact_is_fetched(reference: str, ending: str, tmp_path: Path) -> None:
    code, document = marfetch("pull", reference, "-d", str(tmp_path), "--cache-dir", str(tmp_path / "cache"))
    assert code == 0, document
    assert any(path.name.endswith(ending) for path in tmp_path.iterdir() if path.is_file())


def test_a_real_image_is_refused(tmp_path: Path) -> None:
    code, document = marfetch("pull", IMAGE, "-d", str(tmp_path), "--cache-dir", str(tmp_path / "cache"))
    assert code == 4, document


def test_what_microsoft_signs_is_verified_and_kept_for_the_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "notation"))
    monkeypatch.setenv("NOTATION_CACHE", str(tmp_path / "notation-cache"))
    MICROSOFT.mkdir(parents=True, exist_ok=True)
    for root in ROOTS:
        (MICROSOFT / root.file).write_bytes(fetch_list(root.url, budget=Budget(60), trust=TrustedCertificates()))
    line = ["trust", "add-microsoft", *(str(MICROSOFT / root.file) for root in ROOTS), "--json"]
    subprocess.run([sys.executable, "-m", "marfetch", *line], cwd=ROOT, check=True, capture_output=True)
    code, document = marfetch("verify", SIGNED, "--cache-dir", str(tmp_path / "cache"))
    assert code == 0, document
    destination = str(ROOT / ".tmp" / "microsoft-signatures")
    assert marfetch("referrers", SIGNED, "--kind", "signature", "--fetch", "--force", "-d", destination)[0] == 0


def test_the_open_questions_are_answered() -> None:
    transcript = Transcript("https://mcr.microsoft.com")
    transcript.lists("application-lb/charts/alb-controller")
    transcript.catalog()
    transcript.artifact("application-lb/charts/alb-controller", "1.7.12")
    transcript.lag("https://mcr.azure.cn", "application-lb/charts/alb-controller")
    TRANSCRIPT.parent.mkdir(exist_ok=True)
    TRANSCRIPT.write_text(transcript.document())
    print(f"\nwritten to {TRANSCRIPT.relative_to(ROOT)}:\n{transcript.document()}")
    assert transcript.findings["tags in one answer"] > 0
