"""Helm and Helmfile: the dependencies of charts, and the releases of helmfiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from .places import Form, Found, LeftOut, Node, Place, SetValues, Sources


def _dependencies(document: Node, sources: Sources) -> Iterator[Found]:
    for one in document.get("dependencies").each():
        name, repository = one.get("name"), one.get("repository").text or ""
        if sources.registries.path(repository) is not None:
            yield from sources.registries.chart("chart", name, one.get("repository"), one.get("version"))
        elif repository.startswith(("@", "alias:")):
            yield LeftOut(one.line, f"left out `{name.text}`: the repository `{repository}` is an alias in Helm's own settings")
        elif repository.startswith(("https://", "http://", "oci://")):
            yield LeftOut(one.line, f"left out `{name.text}`: `{repository}` is not on MAR")
        elif one.get("url").text:
            yield LeftOut(one.line, f"left out `{name.text}`: Helm reads `repository`, not `url`")


CHART_FILES: Final = ("Chart.yaml", "Chart.lock", "requirements.yaml", "requirements.lock")

CHART: Final = Form(lambda name, _: name in CHART_FILES, _dependencies)


def releases(form: str, document: Node, sources: Sources, lookup: Callable[[str], list[Node]]) -> Iterator[Found]:
    """Find the charts of releases in a helmfile. The value of `chart` is an address, a path or `REPOSITORY/CHART`.

    Args:
        lookup: takes the name of a repository that `chart` uses, and returns the nodes with its address.
    """
    templates = document.get("templates")
    for one in document.get("releases").each():
        for release in (one, *one.get("dependencies").each()):
            inherited = [templates.get(each.get("template").text or "") for each in release.get("inherit").each()]
            sets = (release, *reversed(inherited))
            name, version = (_first(key, *sets) for key in ("chart", "version"))
            values = tuple(value for each in sets for value in _values(each))
            yield from _release(form, release, name, version, sources, lookup(_alias(name)), values)


def _first(key: str, *nodes: Node) -> Node:
    """Return the key's value from the first mapping that has the key."""
    return next((one.get(key) for one in nodes if one.get(key).value is not None), nodes[0].get(key))


def _values(release: Node) -> Iterator[SetValues]:
    values = release.get("values").value
    for one in values if isinstance(values, list) else ():
        yield SetValues(one) if isinstance(one, str) else SetValues(None, one)
    yield from (SetValues.at(one.get("name").text or "") for one in release.get("set").each())


def _alias(name: Node) -> str:
    return (name.text or "").partition("/")[0]


def _release(
    form: str, release: Node, name: Node, version: Node, sources: Sources, addresses: list[Node], values: tuple[SetValues, ...]
) -> Iterator[Found]:
    text = name.text or ""
    alias, slash, _ = text.partition("/")
    if "://" in text:
        found = list(sources.registries.chart(form, name, name, version, values=values, takes_digest=True))
    elif slash and addresses:
        bases = [sources.registries.path(one.text or "") for one in addresses]
        if len(bases) > 1 and any(bases):
            yield LeftOut(name.line, f"left out `{text}`: several files define the repository `{alias}`", text, form)
        span = name.span
        if len(bases) > 1 or bases[0] is None or span is None:
            return
        named = span.part(len(alias) + 1, len(text))
        more = {"is_chart": True, "values": values, "takes_digest": True}
        found = list(sources.registries.place(form, named, f"{bases[0]}/{named.text}", version.span, **more))
    else:
        if slash and not text.startswith((".", "/")) and "{" not in text:
            yield LeftOut(name.line, f"left out `{text}`: the repository `{alias}` is not in this file; name the file that has it too")
        return
    yield from found
    if any(isinstance(one, Place) for one in found) and release.get("devel").value is True:
        yield LeftOut(release.get("devel").line, f"left out `devel: true` of `{text}`: to lock prereleases, write a range such as `>=0-0`")


HELMFILE: Final = Form(
    lambda _, document: isinstance(document.get("releases").value, list) or isinstance(document.get("repositories").value, list),
    lambda document, sources: releases("helmfile", document, sources, sources.repository),
)
