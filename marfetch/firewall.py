"""Microsoft's hosts as rules that a firewall takes: Azure Firewall, and network policies by name in Kubernetes.

The data endpoint stays a wildcard in both: rules for single regions break when MAR moves (guidance, "strongly recommended to avoid").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from .guidance import RULES, SERVICE_TAGS, SOURCE, Rule

_SCHEMA: Final = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
_PRIORITY: Final = 300


def azure_firewall() -> str:
    """An ARM template: a rule collection group for a policy of Azure Firewall (`az deployment group create --template-file`)."""
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
            "description": "Hosts of the Microsoft Artifact Registry. Where names cannot be used, both service tags: "
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
    """A network policy by names, for Kubernetes with Cilium (in AKS: Azure CNI powered by Cilium, with FQDN filtering).

    Kubernetes' own NetworkPolicy knows addresses only, and those of MAR change.
    """
    lines = [
        "# Hosts of the Microsoft Artifact Registry for pods of one namespace. Kubernetes' own NetworkPolicy takes addresses only;",
        "# this one is of Cilium. Pods with the label below reach MAR and the name service, and nothing else unless another policy",
        "# lets them. Images are pulled by nodes, outside of such policies.",
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
        "    # Names are learnt from the answers of the cluster's name service, so these must go through Cilium's proxy.",
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
