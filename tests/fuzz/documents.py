"""Targets: documents of a project, of the cache, and of other tools."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path, PurePath

from marfetch import records
from marfetch.artifact.module import module_interface, parse_template
from marfetch.bump.bump import edited
from marfetch.bump.decide import Edit
from marfetch.bump.ranges import moved
from marfetch.bundle.format import Base, Record, parse_record, record_bytes
from marfetch.chart.expected import ExpectedChart
from marfetch.constraint import exact_version, read_version, sort_versions
from marfetch.document import Json, parse_json, parse_yaml
from marfetch.helm.charts import _read as read_releases
from marfetch.layout.index import LayoutTags, check_marker, check_version, parse_index
from marfetch.oci import OCI_MANIFEST, REF_NAME, Descriptor, Digest, Platform
from marfetch.project.adopt import Adoption
from marfetch.project.forms.bicep import aliases
from marfetch.project.forms.forms import find
from marfetch.project.forms.places import Place
from marfetch.project.lockfile import Entry, LockedImage, LockedLayer, Verification, lock_bytes, make_lock, parse_lock
from marfetch.project.roots import roots_of
from marfetch.project.scaffold import wanted_bytes
from marfetch.project.wanted import parse_project
from marfetch.records import RECORDS_DIRECTORY, Records
from marfetch.reference import Host, Reference
from marfetch.remote.credentials import find_credentials, forget_credentials
from marfetch.verify.policy import parse_policy
from marfetch.verify.revocation import Lists, cache_entry, split_lists

from ..world.promise import fresh, sandbox
from ..world.signing import policy
from .target import Target

HERE = Path("marfetch.yaml")
NEWEST = sort_versions(["9.9.9"])[0]
HOST = "mcr.microsoft.com"


def _module(data: bytes) -> None:
    found = module_interface(parse_template(data, "the template"), "the template")
    assert all(isinstance(one.type, str) for one in found.parameters)
    assert all(isinstance(one.type, str) for one in found.outputs)


def _json(data: bytes) -> None:
    value = parse_json(data, "the document")
    again = json.dumps(value, allow_nan=False).encode()
    assert parse_json(again, "the document") == value


def _yaml(data: bytes) -> None:
    marks: dict[tuple[str | int, ...], object] = {}
    value = parse_yaml(data, "the document", marks=marks)  # type: ignore[arg-type]
    again = json.dumps(value, allow_nan=False)
    assert json.loads(again) == value
    # JSON is also YAML, and both parsers must return the same value.
    assert parse_yaml(again.encode(), "the document", limit=1 << 26) == value or not again.isascii() or "\\u" in again or "e" in again


def _wanted(data: bytes) -> None:
    project = parse_project(data, HERE)
    for item in project.items:
        assert ".." not in item.destination.split("/")
        assert not item.destination.startswith("/")
        assert item.options() is not None
        assert item.choice is not None
        assert item.wanted is not None


def _lock(data: bytes) -> None:
    lock = parse_lock(data, Path("marfetch.lock"))
    assert parse_lock(lock_bytes(lock), Path("marfetch.lock")) == lock
    names = [root.name for root in roots_of(lock)[len(lock.entries) :]]
    assert len(set(names)) == len(names)


def _adoption(data: bytes) -> None:
    name, _, text = data.partition(b"\n")
    place = sandbox() / {b"chart": "Chart.yaml", b"script": "run.sh", b"terraform": "main.tf", b"azd": "azure.yaml"}.get(name, "any.yaml")
    place.write_bytes(text)
    adoption = Adoption()
    adoption.search(place)
    if adoption.found:
        # marfetch must be able to read the project file that it generates.
        project = parse_project(wanted_bytes(adoption.found), HERE)
        assert len(project.items) == len(adoption.found)


NAMES = {
    b"chart": "Chart.yaml",
    b"script": "run.sh",
    b"terraform": "main.tf",
    b"azd": "azure.yaml",
    b"bicep": "main.bicep",
    b"bicepconfig": "bicepconfig.json",
}


def _rewriting(data: bytes) -> None:
    """Write another version into every place: nothing else changes, and the places are found again with the new version."""
    name, _, raw = data.partition(b"\n")
    path, text = PurePath(NAMES.get(name, "any.yaml")), raw.decode("utf-8", "surrogateescape")
    aliases(text)
    edits = set()
    for one in find(path, text):
        for span in (one.version, one.digest, one.tag) if isinstance(one, Place) else ():
            if span is not None and span.end:
                assert text[span.start : span.end] == span.text
                assert text.count("\n", 0, span.start) + 1 == span.line
        if isinstance(one, Place) and one.version is not None and one.version.end and one.problem is None:
            old = one.version
            is_exact = read_version(old.text if one.is_tag else exact_version(old.text) or "") is not None
            new = NEWEST.tag if is_exact else None if one.is_tag or one.range is None else moved(old.text, NEWEST)
            edits |= {Edit(old.start, old.end, new)} if new is not None else set()
    changed, shift, again = edited(text, edits), 0, set()
    rest, back = 0, []
    for edit in sorted(edits):
        assert edit.start >= rest
        back.append(text[rest : edit.start] + edit.text)
        again.add((edit.start + shift, edit.text))
        rest, shift = edit.end, shift + len(edit.text) - (edit.end - edit.start)
    assert "".join([*back, text[rest:]]) == changed
    assert changed.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == changed
    found = {(one.version.start, one.version.text) for one in find(path, changed) if isinstance(one, Place) and one.version is not None}
    assert again <= found


def _chart(data: bytes) -> None:
    ExpectedChart("demo", "0.1.0").check(data, "demo-0.1.0.tgz")


def _record(data: bytes) -> None:
    assert record_bytes(parse_record(data, "a.tar")) == data


def _index(data: bytes) -> None:
    check, _, rest = data.partition(b"\n")
    if check == b"marker":
        check_marker(rest, "a.tar")
    else:
        parse_index(rest, "a.tar")


def _cache(data: bytes) -> None:
    """Files of the cache. An unreadable file counts as missing."""
    root = fresh("cache")
    for name in (records.DIRECTORY, RECORDS_DIRECTORY, f"{RECORDS_DIRECTORY}/charts"):
        (root / name).mkdir()
    (root / records.DIRECTORY / f"{HOST}+aks+foo.json").write_bytes(data)
    (root / records.DIRECTORY / f"{HOST}+_catalog.json").write_bytes(data)
    (root / RECORDS_DIRECTORY / "charts" / f"{hashlib.sha256(b'aks/foo').hexdigest()}.json").write_bytes(data)
    (root / "index.json").write_bytes(data)
    (root / "oci-layout").write_bytes(data)
    assert all(isinstance(tag, str) for tag in records.read(root, f"{HOST}/aks/foo") or ())
    records.read_catalog(root, HOST)
    found = Records(root, "charts").get("aks/foo")
    if found is not None:
        read_releases(found.data, "aks/foo")
    names = LayoutTags(root)
    for name, descriptor in names.all().items():
        assert names.get(name) == descriptor
    check_version(root)


def _credentials(data: bytes) -> None:
    config = fresh("docker")
    (config / "config.json").write_bytes(data)
    before = {name: os.environ.get(name) for name in ("DOCKER_CONFIG", "HELM_REGISTRY_CONFIG", "PATH", "HELM_PLUGIN_USERNAME")}
    os.environ |= {"DOCKER_CONFIG": str(config), "HELM_REGISTRY_CONFIG": str(config / "none"), "PATH": str(config)}
    os.environ.pop("HELM_PLUGIN_USERNAME", None)
    forget_credentials()
    try:
        found = find_credentials(Host("registry.example.com", 443), "aks/foo").basic
        assert found is None or b":" in base64.b64decode(found)
        if found is not None:
            assert found.isascii()
            assert found.isprintable()
    finally:
        forget_credentials()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _policy(data: bytes) -> None:
    found = parse_policy(data, "trustpolicy.json")
    assert found.statements
    found.statement(f"{HOST}/aks/foo")


def _list_cache(data: bytes) -> None:
    """A cached revocation list, in the form of notation's cache."""
    directory = fresh("crl")
    (directory / hashlib.sha256(b"http://crl.test/a.crl").hexdigest()).write_bytes(data)
    for lists in Lists(caches=[directory]).cached("http://crl.test/a.crl"):
        assert all(isinstance(one, bytes) for one in lists)


def _list_file(data: bytes) -> None:
    """A file with revocation lists, in DER or PEM."""
    found = split_lists(data)
    assert found == [data] or all(len(one) < len(data) for one in found)


# -- seeds


def _descriptor(letter: str, **more: object) -> Descriptor:
    return Descriptor(OCI_MANIFEST, Digest("sha256", letter * 64), 12, **more)  # type: ignore[arg-type]


def _lock_seeds() -> list[bytes]:
    digest = Digest("sha256", "a" * 64)
    index = _descriptor("a")
    one = Entry(
        "foo", Reference("aks/foo", Host(HOST), "1.2.3", digest), index, _descriptor("b"), (LockedLayer(_descriptor("c"), "foo-1.2.3.tgz"), LockedLayer(_descriptor("d"))),
        "helm", "application/vnd.cncf.helm.config.v1+json", "1.2.3", "2026-01-01T00:00:00Z",
        referrers=(_descriptor("e", artifact_type="a/b"),), options={"destination": "charts", "kind": ["helm"]}, verification=Verification("verified", {"signatures": [str(digest)]}),
    )  # fmt: skip
    text = lock_bytes(make_lock([one]))
    platform = Descriptor(OCI_MANIFEST, Digest("sha256", "d" * 64), 7, platform=Platform("linux", "arm64", "v8"))
    images = tuple(
        LockedImage(f"{HOST}/oss/web{end}", Reference("oss/web", Host(HOST), tag, digest), index, children)
        for end, tag, children in ((":2.1", "2.1", (platform,)), (f"@{digest}", None, ()), (":2.2", "2.2", (platform, _descriptor("e"))))
    )
    with_images = lock_bytes(make_lock([replace(one, images=(*images, LockedImage("nginx:1")))]))
    return [
        text,
        with_images,
        with_images.replace(b'"schema": 2', b'"schema": 1'),
        lock_bytes(make_lock([])),
        text.replace(b'"schema": 1', b'"schema": 3'),
        b"<<<<<<< ours\n" + text,
        text.replace(b'"size": 12', b'"size": 13'),
    ]


def _record_seeds() -> list[bytes]:
    digest = Digest("sha256", "a" * 64)
    return [
        record_bytes(Record({"index.json": digest, "marfetch.lock": digest})),
        record_bytes(Record({"index.json": digest}, Base(digest, 10240), {digest: 5})),
        record_bytes(Record({"index.json": digest}, omitted_manifests={digest: 7})),
        b'{"schema":1,"files":{},"base":{"digest":"sha256:' + b"a" * 64 + b'","size":1e999},"omitted":[]}',
    ]


def _index_seeds() -> list[bytes]:
    entry: dict[str, Json] = {"mediaType": OCI_MANIFEST, "digest": f"sha256:{'a' * 64}", "size": 7}
    named: dict[str, Json] = entry | {"annotations": {REF_NAME: f"{HOST}/aks/foo:1.2.3"}}
    return [
        b"index\n" + json.dumps({"schemaVersion": 2, "manifests": [entry, named]}).encode(),
        b'marker\n{"imageLayoutVersion":"1.0.0"}',
        b"index\n[]",
    ]


WANTED = b"""schema: 1
endpoint: global
artifacts:
  - reference: aks/foo
    version: ^1.2
    destination: charts/foo
    untar: true
  - {name: b, reference: bicep/x:1.0, kind: [bicep], media-type: "a/*", artifact-type: x/y, platform: linux/amd64, referrers: true, verify: true}
  - {reference: charts/c, images: [a/*], platforms: [linux/amd64]}
"""

ADOPTED = (
    b"chart\ndependencies:\n- name: foo\n  repository: oci://mcr.microsoft.com/aks\n  version: 1.2.x\n",
    b"any\nreleases:\n- name: x\n  chart: oci://mcr.microsoft.com/aks/foo\n  version: ^1\n- {chart: mar/bar, version: 1.10}\nrepositories:\n- {name: mar, url: mcr.microsoft.com/aks}\n",
    b"any\napiVersion: argoproj.io/v1alpha1\nkind: Application\nspec:\n  source: {chart: foo, repoURL: mcr.microsoft.com/aks, targetRevision: 1.2.3}\n  sources: [{repoURL: 'oci://mcr.microsoft.com/aks/bar', targetRevision: '*'}]\n",
    b"any\nkind: HelmRepository\nmetadata: {name: r}\nspec: {url: oci://mcr.microsoft.com/aks}\n---\nkind: HelmRelease\nspec: {chart: {spec: {chart: foo, version: '>1', sourceRef: {kind: HelmRepository, name: r}}}}\n---\nkind: OCIRepository\nmetadata: {name: o}\nspec: {url: oci://mcr.microsoft.com/aks/foo, ref: {semver: ^1, tag: x}}\n",
    b'terraform\nresource "helm_release" "a" {\n  chart = "foo" # x\n  repository = "oci://mcr.microsoft.com/aks"\n  version = var.v\n  values = [<<-E\n    a\n    E\n  ]\n}\n',
    b"azd\nservices: {a: {k8s: {helm: {releases: [{name: x, chart: 'oci://mcr.microsoft.com/aks/foo', version: 1.10}]}}}}\n",
    b"any\nhelmCharts:\n- {name: foo, repo: 'oci://mcr.microsoft.com/aks', version: '1.2.3@sha256:" + b"a" * 64 + b"'}\n",
    b"any\nkind: ApplicationSet\nspec: {template: {spec: {sources: [{chart: foo, repoURL: mcr.microsoft.com/a}]}}}\n",
    b"script\nhelm pull oci://mcr.microsoft.com/aks/foo --version 1.2.3 \\\n  --untar\nmarfetch pull br/public:avm/res/x:1.0\nmodule x 'br/public:avm/res/y:0.1.0'\ndocker pull mcr.microsoft.com/dotnet/sdk:8.0\noras pull mcr.microsoft.com/a/b:$TAG\n",
)
REWRITTEN = (
    b"any\nschema: 1\nartifacts:\n- {reference: mcr.microsoft.com/a/b:1.2.3, name: c}\n- {reference: mcr.microsoft.com/a/b, version: '>=1 <2'}\n",
    b"bicep\n// module a 'br/public:x:1.2.3'\nmodule a 'br/public:avm/x:1.2.3' = {}\nvar t = '''\nmodule b 'br/public:x:1.2.3'\n'''\nusing 'br:mcr.microsoft.com/b:1.2.3'\n",
    b'bicepconfig\n{"moduleAliases": {"br": {"a": {"registry": "mcr.microsoft.com", "modulePath": "b"}}}, /* x */ "extensions": {"g": "br:mcr.microsoft.com/g:1.2.3"},}\n',
    b"any\nx: &v !!str 1.2.3\nhelmCharts: [{name: b, repo: 'oci://mcr.microsoft.com/a', version: *v}]\nrun: >-\n  helm pull oci://mcr.microsoft.com/a/b\n  --version ^1.2\n",
    b"any\ninputs: {chartName: 'oci://mcr.microsoft.com/a/b', arguments: '--version 1.2.3'}\n",
    b'script\nmarfetch pull a/b:1.2.3 --untar c/d --version ~1.2 && helm pull oci://127.0.0.1:5000/a/b --version "1.2 - 1.4"\n',
)
CHARTS = (
    b"apiVersion: v2\nname: demo\nversion: 0.1.0\ndescription: |\n  text\nkeywords: [a, 'b']\nmaintainers:\n- {name: x, email: y}\n",
    b"name: demo\nversion: v0.1.0+b\n",
    b"name: .\nversion: ../..\n",
    b"a: &x [*x]\n",
    b"!!python/object/apply:os.system [true]\n",
    b"%YAML 1.1\n---\nname: yes\n...\n---\nb: 1\n",
    b"a: 0o17\nb: 0x1F\nc: 1e999\nd: .inf\ne: ~\nf: 2024-01-01\ng: 1_000\n? [x]\n: y\n",
)


TARGETS = (
    Target(
        "bicep-module",
        _module,
        lambda: [
            b'{"definitions":{"a":{"$ref":"#/definitions/a"}},"parameters":{"p":{"$ref":"#/definitions/a","metadata":{"description":"x"}}},"outputs":{}}',
            b'\xef\xbb\xbf{"parameters":{"p":{"type":"int","defaultValue":1,"nullable":true}},"outputs":{"o":{"type":"string"}}}',
        ],
        (5,),
        ("artifact.module.parse_template", "artifact.module.module_interface"),
        runs=500,
    ),
    Target("json", _json, lambda: [b'{"a":[1,-2.5e3,true,null,"\\u00e9\\ud83d\\ude00"],"b":{}}', b"[1e999]", b'{"a":1,"a":2}', b'"\\ud800"', b"NaN", b"-0"], (5,), ("document.parse_json",)),
    Target("yaml", _yaml, lambda: CHARTS, (4, 5), ("document.parse_yaml",), runs=1000),
    Target("wanted-file", _wanted, lambda: [WANTED, b"schema: 1\nartifacts: []\n", b"<<<<<<< ours\nschema: 1\n"], (2, 4), ("project.wanted.parse_project",), runs=600),
    Target("lock", _lock, _lock_seeds, (4, 5, 8), ("project.lockfile.parse_lock",), runs=1000),
    Target("adoption", _adoption, lambda: ADOPTED, (), ("project.adopt.Adoption.search", "project.forms.forms.find", "project.forms.terraform.find"), runs=400),
    Target(
        "rewriting",
        _rewriting,
        lambda: [*ADOPTED, *REWRITTEN],
        (),
        ("bump.bump.edited", "bump.ranges.moved", "project.forms.bicep.find", "project.forms.bicep.aliases", "project.forms.forms.find"),
        runs=400,
    ),
    Target("chart-file", _chart, lambda: CHARTS, (4, 5), ("chart.expected.ExpectedChart.check",), runs=1000),
    Target("bundle-record", _record, _record_seeds, (5,), ("bundle.format.parse_record",)),
    Target("layout-index", _index, _index_seeds, (4, 5), ("layout.index.parse_index", "layout.index.check_marker")),
    Target(
        "cache",
        _cache,
        lambda: [
            b'{"schema":1,"repository":"mcr.microsoft.com/aks/foo","time":"2026-01-01T00:00:00Z","tags":["1.2.3"]}',
            b'{"schema":1,"catalog":"mcr.microsoft.com","etag":"x","names":["aks/foo"]}',
            b'{"schema":1,"key":"aks/foo","data":[{"version":"1.2.3","tag":"1.2.3","manifest":"sha256:' + b"a" * 64 + b'","package":null,"created":null,"facts":{}}]}',
            _index_seeds()[0].partition(b"\n")[2],
            b'{"imageLayoutVersion":"1.0.0"}',
        ],
        (9,),
        ("records.read", "records.read_catalog", "records.Records.get", "helm.charts._read", "layout.index.LayoutTags.all", "layout.index.check_version"),
        runs=300,
    ),
    Target(
        "credentials",
        _credentials,
        lambda: [
            b'{"auths":{"registry.example.com":{"auth":"dXNlcjpwYXNz"},"https://registry.example.com:443/v1/":{"username":"u","password":"p"}}}',
            b'{"credHelpers":{"registry.example.com":"nothing-of-that-name"},"credsStore":"x"}',
            b'{"auths":{"registry.example.com":{"username":"\\ud800","password":"p"}}}',
        ],
        (),
        ("remote.credentials.find_credentials",),
        runs=500,
        programs=True,
    ),
    Target(
        "trust-policy",
        _policy,
        lambda: [
            json.dumps(policy()).encode(),
            json.dumps(policy(registryScopes=[f"{HOST}/aks/foo"], signatureVerification={"level": "permissive", "override": {"revocation": "skip"}, "verifyTimestamp": "afterCertExpiry"}, trustStores=["ca:a", "tsa:b"], trustedIdentities=["*"])).encode(),
        ],
        (2,),
        ("verify.policy.parse_policy",),
    ),
    Target("revocation-cache", _list_cache, lambda: [cache_entry(b"0\x00"), b'{"baseCRL":"MAA=","deltaCRL":"MAA="}'], (), ("verify.revocation.Lists.cached",), runs=500),
    Target("revocation-file", _list_file, lambda: [b"0\x82\x00\x00", 2 * b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"], (), ("verify.revocation.split_lists",), runs=500),
)  # fmt: skip
