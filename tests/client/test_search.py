"""Search and "did you mean": the cached catalog, similar names, and the kinds of repositories."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marfetch import records
from marfetch.__main__ import main
from marfetch.artifact.kinds import kinds_named
from marfetch.client.catalog import catalog, did_you_mean, find, near
from marfetch.client.resolve import Wanted, resolve, versions
from marfetch.client.search import Searched, SearchQuery, search
from marfetch.client.session import Session
from marfetch.errors import Error, IntegrityError, NotFoundError, PolicyError, RemoteError
from marfetch.layout import maintenance
from marfetch.oci import Digest
from marfetch.reference import Reference
from marfetch.remote import limits

from ..world.command import Call
from ..world.content import ALB
from ..world.progress import Heard
from ..world.registry import BLOCKED, Registry

AGIC = "azure-application-gateway/charts/ingress-azure"
ANY = Reference("x")
NAMES = [
    ALB,
    AGIC,
    "azurearck8s/batch1/stable/azure-arc-k8sagents",
    "bicep/avm/res/storage/storage-account",
    "dotnet/aspnet",
    "dotnet/runtime",
]

Clients = Callable[..., Session]


def many(count: int) -> list[str]:
    """Return a number of reproducible names that look like those of MAR."""
    words = [
        "azure",
        "dotnet",
        "aspnet",
        "runtime",
        "storage",
        "ingress",
        "charts",
        "bicep",
        "res",
        "psresource",
        "monitor",
        "arc",
        "agent",
        "batch",
        "stable",
        "samples",
        "mirror",
    ]
    pick = random.Random(1)
    return sorted({"/".join(f"{pick.choice(words)}-{pick.randrange(900)}" for _ in range(pick.randint(2, 5))) for _ in range(count + 200)})[
        :count
    ]


def age(client: Session, mar: Registry, seconds: float) -> None:
    """Make the cached catalog look older."""
    path = client.cache.root / "listings" / f"{mar.host.replace(':', '=')}+_catalog.json"
    os.utime(path, (time.time() - seconds,) * 2)


# -- names


@pytest.mark.parametrize(
    ("text", "found", "way"),
    [
        ("", NAMES, "all"),
        ("ingress", [AGIC], "text"),
        ("INGRESS azure", [AGIC], "text"),
        ("dotnet", ["dotnet/aspnet", "dotnet/runtime"], "text"),
        ("alb-*", [ALB], "glob"),
        ("dotnet/*", ["dotnet/aspnet", "dotnet/runtime"], "glob"),
        ("*/charts/*", [ALB, AGIC], "glob"),
        ("nothing-*", [], "glob"),
        ("alb-controler", [ALB], "near"),
        ("ingres-azure", [AGIC], "near"),
        ("zzzzzzzz", [], "near"),
    ],
)
def test_a_text_means_names(text: str, found: list[str], way: str) -> None:
    result = find(NAMES, text)
    assert (list(result.names), result.way) == (found, way)


def test_the_nearest_names_come_first() -> None:
    names = ["a/foo-tools/x", "a/tools/foo", "foo/bar", "b/c/foo-operator", "foo"]
    assert find(names, "foo").names == ("foo", "a/tools/foo", "foo/bar", "b/c/foo-operator", "a/foo-tools/x")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (f"{AGIC}/ingress-azure", AGIC),
        ("application-lb/charts", ALB),
        (f"{ALB}/extra", ALB),
        ("aplication-lb/chart/alb-controler", ALB),
        ("helm/ingress-azure", AGIC),
        ("alb-controller", ALB),
        ("dotnet/aspnte", "dotnet/aspnet"),
    ],
    ids=["doubled", "parent", "child", "mistyped", "other parent", "last part", "swapped"],
)
def test_a_wrong_name_means_a_right_one(wrong: str, right: str) -> None:
    found = did_you_mean(NAMES, wrong)
    assert found is not None
    assert found.names[0] == right


def test_nothing_is_offered_for_what_is_like_nothing() -> None:
    assert did_you_mean(NAMES, "qqqq/wwww") is None


def test_a_doubled_name_and_a_parent_path_are_called_so() -> None:
    doubled, parent = did_you_mean(NAMES, f"{AGIC}/ingress-azure"), did_you_mean(NAMES, "dotnet")
    assert doubled is not None
    assert doubled.reason == "the chart name appears twice"
    assert parent is not None
    assert parent.reason is not None
    assert "path" in parent.reason
    assert parent.names == ("dotnet/aspnet", "dotnet/runtime")


@pytest.mark.slow
def test_one_among_many_names_is_found() -> None:
    names = many(50_000)
    wanted = names[31_415]
    assert near(names, wanted[:-5] + "x" + wanted[-5:], limit=3)[0] == wanted


# -- the catalog


def test_the_catalog_is_kept_and_not_asked_for_again_soon(mar: Registry, client: Clients) -> None:
    first, second = catalog(client(), ANY), catalog(client(), ANY)
    assert ALB in first.names
    assert second.names == first.names
    assert mar.kinds() == ["catalog"]


def test_an_old_catalog_costs_one_conditional_request(mar: Registry, client: Clients) -> None:
    mar.catalog_etag = '"0x8DC"'
    one = client()
    catalog(one, ANY)
    age(one, mar, 7200)
    again = catalog(one, ANY)
    assert ALB in again.names
    assert again.age == 0
    assert [asked.headers.get("if-none-match") for asked in mar.asked] == [None, '"0x8DC"']
    assert catalog(one, ANY).age < 60  # the age counts from the last confirmation by the registry
    assert len(mar.asked) == 2


def test_a_changed_catalog_replaces_the_kept_one(mar: Registry, client: Clients) -> None:
    mar.catalog_etag = '"a"'
    one = client()
    catalog(one, ANY)
    mar.catalog_etag, mar.listed = '"b"', ["new/one"]
    assert catalog(one, ANY, fresh=0).names == ("new/one",)
    assert catalog(client(offline=True), ANY).names == ("new/one",)


@pytest.mark.parametrize("style", ["relative", "absolute"])
def test_pages_are_followed_and_have_no_common_tag(mar: Registry, client: Clients, style: str) -> None:
    mar.listed, mar.page_size, mar.page_style, mar.catalog_etag = many(1000), 7, style, '"page"'
    one = client()
    assert catalog(one, ANY).names == tuple(mar.listed)
    kept = records.read_catalog(one.cache.root, mar.host)
    assert kept is not None
    assert kept[1] is None


@pytest.mark.parametrize(
    ("style", "kind", "code"),
    [
        ("loop", PolicyError, "redirect-refused"),
        ("endless", PolicyError, "limit-passed"),
        ("foreign", PolicyError, "host-refused"),
        ("other list", IntegrityError, "malformed"),
        ("garbage", IntegrityError, "malformed"),
    ],
)
def test_an_invalid_page_ends_the_list_and_nothing_is_cached(
    mar: Registry, client: Clients, monkeypatch: pytest.MonkeyPatch, style: str, kind: type[Error], code: str
) -> None:
    monkeypatch.setattr(limits, "MAX_CATALOG_PAGES", 30)
    mar.page_size, mar.page_style = 2, style
    one = client()
    with pytest.raises(kind) as caught:
        catalog(one, ANY)
    assert caught.value.code == code
    assert records.read_catalog(one.cache.root, mar.host) is None


def test_names_that_are_none_are_left_out_with_a_count(mar: Registry, client: Clients, heard: Heard) -> None:
    mar.on("catalog").answers_with(json.dumps({"repositories": ["aks/foo", "Aks/Foo", "../x", "a\x1b[31m", 7, ""]}).encode())
    assert catalog(client(), ANY).names == ("aks/foo",)
    assert any("5 invalid entries of the catalog" in warning for warning in heard.warnings)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"repositories": "aks/foo"}', b"\xef\xbb\xbf{"], ids=["page", "array", "text", "cut"])
def test_an_invalid_catalog_is_malformed(mar: Registry, client: Clients, body: bytes) -> None:
    mar.on("catalog").answers_with(body)
    with pytest.raises(IntegrityError):
        catalog(client(), ANY)


def test_if_the_registry_fails_the_cached_catalog_is_used(mar: Registry, client: Clients) -> None:
    one = client()
    catalog(one, ANY)
    mar.on("catalog").answers(403, BLOCKED)
    found = catalog(one, ANY, fresh=0)
    assert ALB in found.names
    assert found.stale is not None
    assert found.stale.code == "blocked"


def test_offline_without_a_kept_catalog_says_so(mar: Registry, client: Clients) -> None:
    with pytest.raises(RemoteError) as caught:
        catalog(client(offline=True), ANY)
    assert caught.value.code == "offline"
    assert mar.asked == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema":1,"catalog":"other","names":[]}', '{"schema":2}', '{"schema":1,"names":"x"}'])
def test_a_kept_file_that_is_no_catalog_is_none(mar: Registry, client: Clients, text: str) -> None:
    one = client()
    catalog(one, ANY)
    (one.cache.root / "listings" / f"{mar.host.replace(':', '=')}+_catalog.json").write_text(text)
    assert records.read_catalog(one.cache.root, mar.host) is None
    assert ALB in catalog(one, ANY).names


def test_the_catalog_is_no_list_of_tags_and_goes_with_the_cache(mar: Registry, client: Clients) -> None:
    one = client()
    catalog(one, ANY)
    assert records.repositories(one.cache.root) == []
    age(one, mar, 40 * 86400)
    maintenance.prune(one.cache, days=30)
    assert records.read_catalog(one.cache.root, mar.host) is None


# -- did you mean


def failure(action: Callable[[], Any]) -> NotFoundError:
    with pytest.raises(NotFoundError) as caught:
        action()
    return caught.value


@pytest.mark.parametrize("tag", [None, "1.9.1"])
def test_a_wrong_name_is_one_request_more_and_names_the_right_one(mar: Registry, client: Clients, tag: str | None) -> None:
    error = failure(lambda: resolve(client(), Wanted(Reference(f"{AGIC}/ingress-azure", tag=tag))))
    assert error.code == "repository-not-found"
    assert f"`{mar.host}/{AGIC}{f':{tag}' if tag else ''}`" in error.hint
    assert "twice" in error.hint
    assert error.context["nearest"] == [AGIC]
    assert mar.kinds() == ["manifest", "tags", "catalog"] if tag else ["tags", "catalog"]


def test_a_right_name_costs_no_catalog(mar: Registry, client: Clients) -> None:
    resolve(client(), Wanted(Reference(ALB)))
    assert "catalog" not in mar.kinds()


def test_what_is_kept_is_enough(mar: Registry, client: Clients) -> None:
    catalog(client(), ANY)
    mar.asked.clear()
    error = failure(lambda: versions(client(), Reference("application-lb/charts/alb-controler")))
    assert ALB in error.hint
    assert mar.kinds() == ["tags"]


def test_a_wrong_name_with_a_digest_gets_a_hint(mar: Registry, client: Clients) -> None:
    wrong = Reference("application-lb/charts/alb-controler", digest=Digest("sha256", "0" * 64))
    assert ALB in failure(lambda: resolve(client(), Wanted(wrong))).hint
    assert mar.kinds() == ["manifest", "catalog"]


def test_a_wrong_digest_of_a_right_name_is_no_wrong_name(client: Clients) -> None:
    error = failure(lambda: resolve(client(), Wanted(Reference(ALB, digest=Digest("sha256", "0" * 64)))))
    assert error.code == "manifest-not-found"
    assert "mean" not in error.hint


def test_a_ghost_is_called_one(mar: Registry, client: Clients) -> None:
    mar.listed = [ALB, "aks/ghost-repo"]
    error = failure(lambda: resolve(client(), Wanted(Reference("aks/ghost-repo"))))
    assert "is in the catalog but has no tags" in error.hint


def test_a_catalog_that_fails_hides_nothing(mar: Registry, client: Clients) -> None:
    mar.on("catalog").answers(500)
    error = failure(lambda: resolve(client(timeout=5), Wanted(Reference("aks/none"))))
    assert error.code == "repository-not-found"


def test_a_hint_is_not_waited_for(mar: Registry, client: Clients) -> None:
    mar.on("catalog").answers(429, "Ref A: x", retry_after="90")
    error = failure(lambda: resolve(client(timeout=20), Wanted(Reference("aks/none"))))
    assert error.code == "repository-not-found"
    assert mar.kinds().count("catalog") == 1


def test_a_registry_without_a_catalog_says_so(mar: Registry, client: Clients) -> None:
    mar.on("catalog").answers(404, "{}")
    assert "has no catalog" in failure(lambda: catalog(client(), ANY)).message


def test_the_getter_names_the_right_one_too(mar: Registry, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MARFETCH_ENDPOINT", f"http://{mar.host}")
    monkeypatch.setenv("MARFETCH_DATA_HOSTS", mar.data_host)
    assert main(["getter", "", "", "", f"mar://{mar.host}/{AGIC}/ingress-azur/ingress-azur-1.9.1.tgz"]) == 3
    assert f"did you mean `{mar.host}/{AGIC}`" in capfd.readouterr().err


# -- search by the kind of repositories


def searched(client: Session, *words: str, kind: str | None = None, **options: Any) -> Searched:
    return search(client, ANY, SearchQuery(" ".join(words), kinds_named(kind) if kind else (), **options))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("chart", {ALB, AGIC, "azurearck8s/batch1/stable/azure-arc-k8sagents", "k8s/azureserviceoperator/helmchart/azure-service-operator",
                   "azuremonitor/containerinsights/cidev/prometheus-collector"}),
        ("bicep", {"bicep/avm/res/storage/storage-account"}),
        ("powershell", {"psresource/az.accounts"}),
        ("disk-image", {"azurelinux/3.0/image/minimal-os"}),
        ("image", {"dotnet/aspnet", "azurecleanroom/policies/ccr-governance-opa-policy"}),
    ],
)  # fmt: skip
def test_a_kind_is_what_the_newest_version_holds(client: Clients, kind: str, names: set[str]) -> None:
    found = searched(client(), kind=kind)
    assert {one.name for one in found.repositories} == names
    assert {one.kind for one in found.repositories} == {kind}


def test_a_chart_comes_with_its_newest_version_and_what_it_says(client: Clients) -> None:
    (one,) = searched(client(), "ingress-azure", kind="chart").repositories
    assert (one.newest, one.tag, one.app_version) == ("1.9.1", "1.9.1", "1.9.1")


def test_an_artifact_type_is_a_glob(client: Clients) -> None:
    found = searched(client(), artifact_types=("application/vnd.ms.bicep.MODULE.*",))
    assert [one.name for one in found.repositories] == ["bicep/avm/res/storage/storage-account"]


def test_what_was_found_is_kept(mar: Registry, client: Clients) -> None:
    first = searched(client(), kind="chart")
    mar.asked.clear()
    second = searched(client(), kind="chart")
    assert second.repositories == first.repositories
    assert mar.asked == []
    (known,) = searched(client(offline=True), "ingress-azure").repositories
    assert (known.kind, known.newest) == ("chart", "1.9.1")


def test_without_a_kind_nothing_but_the_catalog_is_asked_for(mar: Registry, client: Clients) -> None:
    (one,) = searched(client(), "ingress-azure").repositories
    assert (one.kind, one.newest) == (None, None)
    assert mar.kinds() == ["catalog"]


def test_what_the_cache_knows_is_said_without_a_kind(client: Clients) -> None:
    shared = client()
    resolve(shared, Wanted(Reference(AGIC)))
    (one,) = searched(shared, "ingress-azure").repositories
    assert (one.kind, one.newest) == ("chart", "1.9.1")


def test_candidates_are_bounded_and_the_nearest_are_taken(mar: Registry, client: Clients) -> None:
    mar.listed = [ALB, *(f"other/alb-controller-{number:03}/x" for number in range(300))]
    found = searched(client(), "alb-controller", kind="chart")
    assert (found.candidates, found.looked_at) == (301, 200)
    assert [one.name for one in found.repositories] == [ALB]
    assert mar.kinds().count("tags") == 200
    assert len(found.ghosts) == 199
    mar.asked.clear()
    assert searched(client(), "alb-controller", kind="chart", limit=301).looked_at == 301
    assert mar.kinds().count("tags") == 101


def test_ghosts_are_no_results_and_are_remembered(mar: Registry, client: Clients) -> None:
    mar.listed = [ALB, "aks/ghost-alb"]
    found = searched(client(), "alb", kind="chart")
    assert ([one.name for one in found.repositories], found.ghosts) == ([ALB], ("aks/ghost-alb",))
    plain = searched(client(), "alb")
    assert [(one.name, one.ghost) for one in plain.repositories] == [(ALB, False), ("aks/ghost-alb", True)]


def test_a_listed_version_without_a_manifest_is_passed_over_and_named(mar: Registry, client: Clients) -> None:
    mar.tags[ALB] = ["1.12.0"]
    (one,) = searched(client(), "alb-controller", kind="chart").repositories
    assert (one.newest, one.missing) == ("1.11.4", ("1.12.0",))


def test_an_unlisted_repository_is_found_by_its_whole_name(mar: Registry, client: Clients) -> None:
    mar.listed = [AGIC]
    (one,) = searched(client(), ALB, kind="chart").repositories
    assert (one.name, one.listed, one.newest) == (ALB, False, "1.11.4")
    # Now the repository is cached, so every word of its name finds it.
    assert [(one.name, one.listed) for one in searched(client(), "alb").repositories] == [(ALB, False)]


def test_a_miss_asks_an_old_catalog_once_more(mar: Registry, client: Clients) -> None:
    mar.listed = [AGIC]
    one = client()
    catalog(one, ANY)
    mar.listed = [AGIC, "new/thing"]
    age(one, mar, 300)
    assert [found.name for found in searched(one, "thing").repositories] == ["new/thing"]


def test_a_throttle_stops_the_looks_and_is_no_missing_result(mar: Registry, client: Clients) -> None:
    mar.on("tags").answers(429, "Ref A: x", retry_after="3000")
    found = searched(client(jobs=1), kind="chart")
    assert {one.error.code for one in found.repositories if one.error} == {"rate-limited"}
    assert len([one for one in found.repositories if one.error]) == found.looked_at
    assert mar.kinds().count("tags") == 1


def test_one_that_fails_does_not_hide_the_others(mar: Registry, client: Clients) -> None:
    mar.on("manifest", path="ingress-azure").answers(403, '{"errors":[{"code":"DENIED","message":"no"}]}')
    found = searched(client(), kind="chart")
    assert [one.name for one in found.repositories if one.error] == [AGIC]
    assert len(found.repositories) == 5


# -- the command


def test_names_are_lines(call: Call) -> None:
    code, out, _ = call("search", "ingress")
    assert (code, out) == (0, f"{AGIC}\n")


def test_a_table_of_charts_has_versions_and_ages(call: Call) -> None:
    code, out, _ = call("search", "alb-controller", "--kind", "chart")
    (row,) = out.splitlines()
    name, newest, app_version, made, kind = row.split("\t")
    assert (code, name, newest, app_version, kind) == (0, ALB, "1.11.4", "-", "chart")
    assert "year" in made or "day" in made


def test_the_json_has_names_and_references(call: Call, mar: Registry) -> None:
    code, out, _ = call("search", "ingress", "--json")
    data = json.loads(out)["data"]
    (one,) = data["repositories"]
    assert (code, one["name"], one["reference"], one["kind"], one["newest"]) == (0, AGIC, f"{mar.host}/{AGIC}", None, None)


def test_a_host_in_front_of_the_text_is_the_registry(call: Call, mar: Registry) -> None:
    assert call("search", f"oci://{mar.host}/azure-application-gateway/*")[1] == f"{AGIC}\n"


def test_an_empty_search_result_is_reported_and_is_no_failure(call: Call) -> None:
    code, out, err = call("search", "qqqqqqqqq")
    assert (code, out) == (0, "")
    assert "nothing found" in err


def test_near_names_are_called_near(call: Call) -> None:
    code, out, err = call("search", "alb-controler")
    assert (code, out) == (0, f"{ALB}\n")
    assert "these are similar" in err


def test_matches_that_are_not_listed_are_reported(call: Call) -> None:
    _, out, err = call("search", "--limit", "2")
    assert len(out.splitlines()) == 2
    assert "only 2 of 13 matches" in err


def test_a_throttle_is_the_exit_code_and_the_rest_is_shown(call: Call, mar: Registry) -> None:
    mar.on("tags", path="ingress-azure").answers(429, "Ref A: x", retry_after="3000")
    code, out, err = call("search", "--kind", "chart", "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["error"]["code"]) == (7, False, "rate-limited")
    assert document["data"]["failed"][0]["reference"] == f"{mar.host}/{AGIC}" or document["data"]["failed"]
    assert "cannot inspect" in err


@pytest.mark.parametrize("words", [("--limit", "0"), ("--kind", "nonsense"), ("a b", "c")])
def test_bad_input_is_refused(call: Call, words: tuple[str, ...], mar: Registry) -> None:
    assert call("search", *words)[0] == 2
    assert mar.asked == []


@pytest.mark.slow
def test_a_search_in_the_kept_catalog_loads_nothing_heavy(tmp_path: Path) -> None:
    records.keep_catalog(tmp_path, "mcr.microsoft.com", many(50_000), None)
    code = "import sys; from marfetch.__main__ import main; code = main(sys.argv[1:]); print(code, sorted({'oras', 'requests', 'urllib3', 'rapidfuzz'} & set(sys.modules)))"
    line = [sys.executable, "-c", code, "search", "psresource-1 dotnet", "--cache-dir", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    *names, last = done.stdout.splitlines()
    assert names
    assert last == "0 []"


def test_completion_offers_the_names_of_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    records.keep_catalog(tmp_path, "mcr.microsoft.com", NAMES, None)
    monkeypatch.setenv("MARFETCH_CACHE_DIR", str(tmp_path))
    assert main(["__complete", "pull", "dotnet/"]) == 0
    assert capfd.readouterr().out.splitlines()[:2] == ["dotnet/aspnet", "dotnet/runtime"]


@pytest.mark.parametrize(
    ("wrong", "first"),
    [("windows/servercor", "windows/servercore"), ("azure-cli/hlem", "azure-cli/helm"), ("windows/nothing-like-it", "windows")],
)
def test_siblings_of_a_wrong_name_come_before_its_parents(wrong: str, first: str) -> None:
    found = did_you_mean(["windows", "windows/servercore", "windows/nanoserver", "azure-cli", "azure-cli/helm"], wrong)
    assert found is not None
    assert found.names[0] == first
    assert wrong.partition("/")[0] in found.names


def test_an_offline_search_counts_repositories_of_unknown_kind(mar: Registry, client: Clients) -> None:
    catalog(client(), ANY)
    list(searched(client(), "ingress-azure", kind="chart").repositories)
    found = searched(client(offline=True), kind="chart")
    assert [one.name for one in found.repositories] == [AGIC]
    assert found.unknown > 0
    assert found.looked_at == found.candidates - found.unknown
