"""The hosts of MAR, and firewall rules for them: Azure Firewall, and Kubernetes network policies with host names.

Both use a wildcard for the data endpoint. Microsoft's guidance strongly discourages rules for single regions, which break when MAR moves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

# -- Microsoft's guidance as data: hosts, locations and statements


@dataclass(frozen=True, slots=True)
class Rule:
    """One host that a firewall must allow.

    Attributes:
        host: a host name, or `*.` and a host name.
        endpoint: `global` or `china`.
        purpose: what the host serves, as text for display.
    """

    host: str
    endpoint: str
    purpose: str
    protocol: str = "https"
    port: int = 443


RULES: Final = (
    Rule("mcr.microsoft.com", "global", "registry endpoint: manifests, tags and discovery pages"),
    Rule("*.data.mcr.microsoft.com", "global", "data endpoint: blobs, by redirect"),
    Rule("mcr.azure.cn", "china", "registry endpoint in China: counterpart of mcr.microsoft.com"),
    Rule("*.data.mcr.azure.cn", "china", "data endpoint in China: counterpart of *.data.mcr.microsoft.com"),
)

SERVICE_TAGS: Final = ("MicrosoftContainerRegistry", "AzureFrontDoor.FirstParty")
"""Azure service tags; both are needed."""

REGISTRY_LOCATIONS: Final = (
    "Asia East",
    "Asia South East",
    "China East 3",
    "China North 3",
    "Europe North",
    "Europe West",
    "US Central",
    "US East",
    "US West",
    "US West 2",
    "US West-Central",
)
"""Locations of the registry endpoint, as the guidance lists them."""

DATA_LOCATIONS: Final = (
    ("worldwide", "https://docs.microsoft.com/azure/cdn/cdn-pop-locations"),
    ("china", "https://docs.azure.cn/cdn/cdn-pops"),
)
"""Pages that list the locations of the data endpoint: the points of presence of Azure Front Door."""

NOT_MAR: Final = (
    ("mcr.azk8s.cn", "an old proxy in China, not MAR"),
    ("mcr.microsoft.us", "does not exist; US Government clouds use mcr.microsoft.com"),
    ("mcr.microsoft.cn", "does not exist; China uses mcr.azure.cn"),
    ("*.cdn.mscr.io", "the data endpoint until June 2020"),
)
"""Hosts that are mistaken for MAR."""

STATEMENTS: Final = (
    ("protocol", "https only; MAR implements the OCI distribution specification and needs no login"),
    ("regions", "allow the names above and the wildcard; rules for single regions are strongly discouraged and break when MAR moves"),
    ("addresses", "IP addresses change; if you cannot use names, use the service tags"),
    ("routing", "Azure Traffic Manager balances the registry endpoint over its locations; Azure Front Door serves content"),
    ("mirrors", "there are no official mirrors; Microsoft endorses none: they may serve altered content and open supply chains to attack"),
    ("throttling", "clients that download very much get HTTP 429 and are expected to back off"),
    ("availability", "there is no service level agreement and no public status page"),
    ("names", "MAR was called MCR (Microsoft Container Registry); only Microsoft teams publish there"),
    ("china", "mcr.azure.cn is a cache of mcr.microsoft.com with the same paths and tags"),
)

SUPPORT: Final = (
    ("ticket", "https://azure.microsoft.com/support/create-ticket/"),
    ("issue", "https://github.com/microsoft/containerregistry/issues/new"),
)
"""Where to report problems with MAR; have the `X-Msedge-Ref` of a failed response ready."""

SOURCE: Final = "https://github.com/microsoft/containerregistry/blob/main/docs/mcr-endpoints-guidance.md"


_SCHEMA: Final = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
_PRIORITY: Final = 300


def azure_firewall() -> str:
    """Return an ARM template with a rule collection group for an Azure Firewall policy (`az deployment group create --template-file`)."""
    rules = [
        {
            "ruleType": "ApplicationRule",
            "name": f"mar-{endpoint}",
            "description": f"Microsoft Artifact Registry, {', '.join(rule.host for rule in group)}",
            "sourceAddresses": "[parameters('sourceAddresses')]",
            "protocols": [{"protocolType": "Https", "port": 443}],
            "targetFqdns": [rule.host for rule in group],
            "terminateTLS": False,
        }
        for endpoint, group in _by_endpoint()
    ]
    collection = {
        "ruleCollectionType": "FirewallPolicyFilterRuleCollection",
        "name": "microsoft-artifact-registry",
        "priority": _PRIORITY,
        "action": {"type": "Allow"},
        "rules": rules,
    }
    template: dict[str, Any] = {
        "$schema": _SCHEMA,
        "contentVersion": "1.0.0.0",
        "metadata": {
            "description": "Hosts of the Microsoft Artifact Registry. If you cannot use names, use both service tags: "
            + ", ".join(SERVICE_TAGS),
            "source": SOURCE,
        },
        "parameters": {
            "firewallPolicyName": {"type": "string"},
            "sourceAddresses": {"type": "array", "defaultValue": ["*"]},
        },
        "resources": [
            {
                "type": "Microsoft.Network/firewallPolicies/ruleCollectionGroups",
                "apiVersion": "2023-11-01",
                "name": "[format('{0}/{1}', parameters('firewallPolicyName'), 'microsoft-artifact-registry')]",
                "properties": {"priority": _PRIORITY, "ruleCollections": [collection]},
            }
        ],
    }
    return json.dumps(template, indent=2) + "\n"


def kubernetes() -> str:
    """Return a network policy with host names for Cilium (in AKS: Azure CNI powered by Cilium, with FQDN filtering).

    Kubernetes' NetworkPolicy supports only IP addresses, and MAR's IP addresses change.
    """
    lines = [
        "# Allow pods of one namespace to reach the Microsoft Artifact Registry. This policy needs Cilium, because Kubernetes'",
        "# NetworkPolicy supports only IP addresses. Pods with the label below can reach only MAR and DNS, unless another policy",
        "# allows more. Nodes pull images, so this policy does not affect them.",
        f"# {SOURCE}",
        "apiVersion: cilium.io/v2",
        "kind: CiliumNetworkPolicy",
        "metadata:",
        "  name: allow-microsoft-artifact-registry",
        "spec:",
        "  endpointSelector:",
        "    matchLabels:",
        '      egress-microsoft-artifact-registry: "true"',
        "  egress:",
        "    # Cilium learns addresses from DNS responses, so DNS must go through its proxy.",
        "    - toEndpoints:",
        "        - matchLabels:",
        "            k8s:io.kubernetes.pod.namespace: kube-system",
        "            k8s:k8s-app: kube-dns",
        "      toPorts:",
        "        - ports:",
        '            - port: "53"',
        "              protocol: ANY",
        "          rules:",
        "            dns:",
        '              - matchPattern: "*"',
    ]
    for endpoint, group in _by_endpoint():
        lines += [f"    # {endpoint}", "    - toFQDNs:"]
        lines += [f'        - {"matchPattern" if "*" in rule.host else "matchName"}: "{rule.host}"' for rule in group]
        lines += ["      toPorts:", "        - ports:", '            - port: "443"', "              protocol: TCP"]
    return "\n".join(lines) + "\n"


def _by_endpoint() -> Iterator[tuple[str, list[Rule]]]:
    for endpoint in dict.fromkeys(rule.endpoint for rule in RULES):
        yield endpoint, [rule for rule in RULES if rule.endpoint == endpoint]
