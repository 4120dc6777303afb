"""Container images in the look-alike registry, as build tools push them, and a chart that names images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from marfetch.oci import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor, Platform, descriptor_json

from .archives import file, targz
from .charts import add_chart
from .registry import Registry

CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
WEB: Final = "oss/web"
CHART: Final = "charts/foo"
BASE: Final = b"a base layer" * 1000
"""A layer that all images share."""


def add_image(
    mar: Registry,
    repository: str,
    tag: str,
    platform: str = "linux/amd64",
    *,
    layers: Sequence[tuple[str, bytes]] = (),
    docker: bool = False,
    urls: Sequence[str] = (),
    salt: str = "",
) -> Descriptor:
    """Add the image of one platform; returns its descriptor, with its platform.

    Args:
        layers: media types and bytes of further layers, after the shared one.
        docker: whether to write a manifest of Docker, schema 2.
        urls: the `urls` of the last layer, as in Windows base layers.
        salt: makes another digest of the same image.
    """
    os, architecture, *variant = platform.split("/")
    config = {"architecture": architecture, "os": os, "config": {}, "rootfs": {"type": "layers", "diff_ids": []}, "author": salt}
    described = descriptor_json(mar.add_blob(json.dumps(config).encode()))
    described["mediaType"] = DOCKER_CONFIG if docker else CONFIG
    own = (DOCKER_LAYER if docker else LAYER, f"{repository} {platform} {salt}".encode() * 500)
    listed: list[dict[str, Any]] = []
    for media_type, data in ((own[0], BASE), own, *layers):
        listed.append({**descriptor_json(mar.add_blob(data)), "mediaType": media_type})
    if urls:
        listed[-1]["urls"] = list(urls)
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    document = {"schemaVersion": 2, "mediaType": media_type, "config": described, "layers": listed}
    made = mar.add_manifest(repository, tag, json.dumps(document, indent=1).encode())
    return Descriptor(made.media_type, made.digest, made.size, platform=Platform(os, architecture, *variant))


def add_index(mar: Registry, repository: str, tag: str, children: Sequence[Descriptor], *, docker: bool = False) -> Descriptor:
    """Add an OCI index or a manifest list of Docker, with an indentation that marfetch never writes."""
    media_type = DOCKER_LIST if docker else OCI_INDEX
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": [descriptor_json(one) for one in children]}
    return mar.add_manifest(repository, tag, json.dumps(document, indent=3).encode())


def add_multi(
    mar: Registry,
    repository: str = WEB,
    tag: str = "2.1",
    platforms: Sequence[str] = ("linux/amd64", "linux/arm64/v8", "windows/amd64"),
    *,
    docker: bool = False,
    attested: bool = False,
    salt: str = "",
) -> tuple[Descriptor, list[Descriptor]]:
    """Add an image of several platforms; returns the index and its children. Only the index has the tag.

    Args:
        attested: whether to add an attestation manifest for the first platform, as BuildKit does.
    """
    children = [add_image(mar, repository, "x", platform, docker=docker, salt=salt) for platform in platforms]
    if attested:
        note = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": str(children[0].digest)}
        statement = {**descriptor_json(mar.add_blob(f"in-toto {salt}".encode())), "mediaType": "application/vnd.in-toto+json"}
        config = {**descriptor_json(mar.add_blob(b'{"attestation":true}')), "mediaType": CONFIG}
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [statement]}
        made = mar.add_manifest(repository, "x", json.dumps(document).encode())
        children.append(Descriptor(made.media_type, made.digest, made.size, note, platform=Platform("unknown", "unknown")))
    del mar.manifests[f"{repository} x"]
    tags = mar.tags[repository]
    assert isinstance(tags, list)
    tags.remove("x")
    return add_index(mar, repository, tag, children, docker=docker), children


def add_naming_chart(
    mar: Registry, *images: str, repository: str = CHART, tag: str = "1.0.0", more: dict[str, bytes] | None = None
) -> None:
    """Add a chart whose values name these images."""
    values = "".join(f"part{number}:\n  image: {json.dumps(image)}\n" for number, image in enumerate(images)) or "a: 1\n"
    name = repository.rpartition("/")[2]
    files = {"Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: {tag}\n".encode(), "values.yaml": values.encode(), **(more or {})}
    add_chart(mar, repository, tag, targz(*(file(f"{name}/{path}", data) for path, data in files.items())))
