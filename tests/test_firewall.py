"""The hosts that a firewall must allow, and their descriptions."""

from __future__ import annotations

import pytest

from marfetch import firewall
from marfetch.endpoint import OFFICIAL, Address
from marfetch.errors import PolicyError
from marfetch.text import printable


def test_the_hosts_for_a_firewall_are_exactly_the_hosts_of_a_fetch() -> None:
    told_hosts = {(rule.endpoint, rule.host) for rule in firewall.RULES}
    touched = {(name, host) for name, one in OFFICIAL.items() for host in (one.registry.host.name, *map(str, one.data_hosts))}
    assert told_hosts == touched
    assert len(firewall.RULES) == len(told_hosts)
    assert {(rule.protocol, rule.port) for rule in firewall.RULES} == {("https", 443)}


@pytest.mark.parametrize("host", [host for host, _ in firewall.NOT_MAR])
@pytest.mark.parametrize("name", OFFICIAL)
def test_what_is_taken_for_mar_is_not_reached(name: str, host: str) -> None:
    with pytest.raises(PolicyError):
        OFFICIAL[name].check(Address.parse(f"https://{host.replace('*', 'x')}/v2/"))


def test_statements_are_short_lines_and_links_are_https() -> None:
    texts = [text for _, text in (*firewall.STATEMENTS, *firewall.NOT_MAR)] + [rule.purpose for rule in firewall.RULES]
    assert all(text and len(text) < 160 and printable(text) == text for text in texts)
    links = [link for _, link in (*firewall.DATA_LOCATIONS, *firewall.SUPPORT)] + [firewall.SOURCE]
    assert all(link.startswith("https://") for link in links)
    for rows in (firewall.STATEMENTS, firewall.NOT_MAR, firewall.DATA_LOCATIONS, firewall.SUPPORT):
        assert len(dict(rows)) == len(rows)
    assert len(set(firewall.REGISTRY_LOCATIONS)) == len(firewall.REGISTRY_LOCATIONS)
