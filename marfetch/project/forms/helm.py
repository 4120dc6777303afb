"""Helm and Helmfile: the dependencies of charts, and the releases of helmfiles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from .places import Form, Found, LeftOut, Node, Sources, chart, registry_path


def _dependencies(document: Node, _: Sources) -> Iterator[Found]:
    for one in document.get("dependencies").each():
        name, repository = one.get("name"), one.get("repository").text or ""
        if registry_path(repository) is not None:
            yield from chart("chart", one.line, name.text, repository, one.get("version"))
        elif repository.startswith(("@", "alias:")):
            yield LeftOut(one.line, f"left out `{name.text}`: the repository `{repository}` is an alias in Helm's own settings")
        elif repository.startswith(("https://", "http://", "oci://")):
            yield LeftOut(one.line, f"left out `{name.text}`: `{repository}` is not on MAR")
        elif one.get("url").text:
            yield LeftOut(one.line, f"left out `{name.text}`: Helm reads `repository`, not `url`")


CHART_FILES: Final = ("Chart.yaml", "Chart.lock", "requirements.yaml", "requirements.lock")

CHART: Final = Form(lambda name, _: name in CHART_FILES, _dependencies)


def releases(form: str, document: Node, repositories: Mapping[str, str | None]) -> Iterator[Found]:
    """Find the charts of releases in a helmfile. The value of `chart` is an address, a path or `REPOSITORY/CHART`.

    Args:
        repositories: the repositories that `chart` may name, by name; the values are addresses.
    """
    templates = document.get("templates")
    for one in document.get("releases").each():
        for release in (one, *one.get("dependencies").each()):
            inherited = [templates.get(each.get("template").text or "") for each in release.get("inherit").each()]
            name, version = (_first(key, release, *reversed(inherited)) for key in ("chart", "version"))
            yield from _release(form, release, name, version, repositories)


def _first(key: str, *nodes: Node) -> Node:
    """Return the key's value from the first mapping that has the key."""
    return next((one.get(key) for one in nodes if one.get(key).value is not None), nodes[0].get(key))


def _release(form: str, release: Node, place: Node, version: Node, repositories: Mapping[str, str | None]) -> Iterator[Found]:
    text, line = place.text or "", place.line
    alias, slash, name = text.partition("/")
    if text.startswith("oci://"):
        found = list(chart(form, line, text, None, version))
    elif slash and alias in repositories:
        found = list(chart(form, line, name, repositories[alias], version))
    else:
        if slash and not text.startswith((".", "/")) and "{" not in text:
            yield LeftOut(line, f"left out `{text}`: the repository `{alias}` is not in this file; name the file that has it too")
        return
    yield from found
    if found and release.get("devel").value is True:
        yield LeftOut(release.get("devel").line, f"left out `devel: true` of `{text}`: to lock prereleases, write a range such as `>=0-0`")


HELMFILE: Final = Form(
    lambda _, document: isinstance(document.get("releases").value, list) or isinstance(document.get("repositories").value, list),
    lambda document, sources: releases("helmfile", document, sources.repositories),
)
