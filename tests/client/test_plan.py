"""`plan`: the hosts, requests and bytes of a download; and the hosts as firewall rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from marfetch import firewall
from marfetch.__main__ import main
from marfetch.client.plan import plan
from marfetch.client.pull import PullOptions, pull
from marfetch.client.resolve import Wanted
from marfetch.client.session import Session
from marfetch.firewall import RULES
from marfetch.reference import Reference

from ..world.command import Call
from ..world.content import ALB
from ..world.registry import Registry

VAULT = "bicep/avm/res/storage/storage-account"

WANTED = [
    pytest.param([Wanted(Reference(ALB, tag="1.7.12"))], id="tag"),
    pytest.param([Wanted(Reference(ALB), "1.7.12")], id="version"),
    pytest.param([Wanted(Reference(ALB), "^1.7")], id="range"),
    pytest.param([Wanted(Reference(ALB)), Wanted(Reference(VAULT, tag="0.14.0"))], id="two"),
    pytest.param([Wanted(Reference(ALB)), Wanted(Reference(ALB))], id="twice"),
]


@pytest.mark.parametrize("wanted", WANTED)
def test_a_plan_says_what_the_pull_then_needs(mar: Registry, client: Callable[..., Session], tmp_path: Path, wanted: list[Wanted]) -> None:
    told = plan(client(cache_dir=tmp_path / "a"), wanted, PullOptions(tmp_path))
    assert {"blob", "data"} & set(mar.kinds()) == set()
    mar.asked.clear()
    files = pull(client(cache_dir=tmp_path / "b"), wanted, PullOptions(tmp_path / "out")).files
    assert told.requests == len(mar.asked)
    assert {need.host: need.requests for need in told.needs} == {
        mar.host: sum(asked.port == mar.port for asked in mar.asked),
        mar.data_host: sum(asked.port == mar.data_port for asked in mar.asked),
    }
    assert told.size == sum({file.layer.digest: file.layer.size for file in files}.values())


def test_what_the_cache_has_needs_nothing(mar: Registry, client: Callable[..., Session], tmp_path: Path) -> None:
    wanted = [Wanted(Reference(ALB, tag="1.7.12"))]
    pull(client(), wanted, PullOptions(tmp_path / "out"))
    mar.asked.clear()
    told = plan(client(), wanted, PullOptions(tmp_path))
    assert (told.size, told.requests, mar.kinds()) == (0, 1, ["manifest"])
    assert told.cached > 0


def test_an_official_endpoint_needs_its_wildcard(client: Callable[..., Session], mar: Registry, call: Call) -> None:
    code, out, _ = call("plan", f"{ALB}:1.7.12")
    rows = [line.split("\t") for line in out.splitlines()]
    assert code == 0
    assert [row[0] for row in rows] == ["artifact", "host", "host", "total"]
    assert rows[1][1:] == [mar.host, str(mar.port), "http", "2 requests", "0 B"]
    assert rows[2][1:3] == [mar.data_host, str(mar.data_port)]
    assert rows[3][1] == "3 requests"


def test_the_json_has_hosts_requests_and_bytes(call: Call, mar: Registry) -> None:
    code, out, _ = call("plan", f"{ALB}:1.7.12", "--json")
    data = json.loads(out)["data"]
    assert code == 0
    assert data["requests"] == 3
    assert data["bytes"] == data["artifacts"][0]["bytes"] == sum(host["bytes"] for host in data["hosts"]) > 0
    assert [host["host"] for host in data["hosts"]] == [mar.host, mar.data_host]


def test_an_artifact_that_cannot_be_resolved_does_not_hide_the_others(call: Call) -> None:
    code, out, _ = call("plan", f"{ALB}:9.9.9", f"{ALB}:1.7.12", "aks/Foo", "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["error"]["code"]) == (3, False, "tag-not-found")
    assert [failed["code"] for failed in document["data"]["failed"]] == ["tag-not-found", "reference-invalid"]
    assert len(document["data"]["artifacts"]) == 1


# -- rules


def test_the_template_for_azure_firewall_names_all_hosts(call: Call) -> None:
    code = main(["endpoints", "--format", "azure-firewall"])
    assert code == 0
    template = json.loads(firewall.azure_firewall())
    (group,) = template["resources"]
    (collection,) = group["properties"]["ruleCollections"]
    assert group["type"] == "Microsoft.Network/firewallPolicies/ruleCollectionGroups"
    assert collection["action"] == {"type": "Allow"}
    assert [host for rule in collection["rules"] for host in rule["targetFqdns"]] == [rule.host for rule in RULES]
    assert {protocol["port"] for rule in collection["rules"] for protocol in rule["protocols"]} == {443}


def test_the_policy_for_kubernetes_names_all_hosts_and_the_name_service() -> None:
    policy = yaml.safe_load(firewall.kubernetes())
    assert (policy["apiVersion"], policy["kind"]) == ("cilium.io/v2", "CiliumNetworkPolicy")
    assert policy["spec"]["endpointSelector"] != {}  # an empty selector would block all other traffic of every pod
    names, *hosts = policy["spec"]["egress"]
    assert names["toPorts"][0]["rules"]["dns"] == [{"matchPattern": "*"}]
    found = [one for rule in hosts for one in rule["toFQDNs"]]
    assert [next(iter(one.values())) for one in found] == [rule.host for rule in RULES]
    assert {next(iter(one)) for one in found if "*" in str(one)} == {"matchPattern"}
    assert {port["port"] for rule in hosts for ports in rule["toPorts"] for port in ports["ports"]} == {"443"}


@pytest.mark.parametrize(("form", "first"), [("azure-firewall", "{"), ("kubernetes", "# Allow pods")])
def test_a_format_prints_the_document_alone(capfd: pytest.CaptureFixture[str], form: str, first: str) -> None:
    assert main(["endpoints", "--format", form]) == 0
    out = capfd.readouterr().out
    assert out.startswith(first)
    assert main(["endpoints", "--format", form, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["data"] == {"format": form, "document": out}


def test_an_unknown_format_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["endpoints", "--format", "cisco"]) == 2
    assert "azure-firewall" in capfd.readouterr().err


def test_hosts_of_what_cannot_be_had_keep_their_protocol(call: Call, mar: Registry) -> None:
    code, out, _ = call("plan", "aks/missing", "--json")
    assert code == 3
    (host,) = json.loads(out)["data"]["hosts"]
    assert (host["host"], host["protocol"], host["port"]) == (mar.host, "http", int(mar.host.rpartition(":")[2]))
