"""`marfetch search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..render.table import age, span
from ..text import counted
from .help import add
from .options import Settings, shared

if TYPE_CHECKING:
    from ..client.search import FoundRepository, Searched

_Text = Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Words or a glob; a leading host or oci://HOST chooses the registry.")]
_Kind = Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help="The newest version must be of this kind, such as chart.")]
_ArtifactType = Annotated[
    list[str] | None, typer.Option("--artifact-type", metavar="GLOB", help="The newest version must have this artifact type.")
]
_Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="Maximum number of names to list; with --kind, to check (200).")]
_Refresh = Annotated[bool, typer.Option("--refresh", help="Download the catalog again, even if the cached one is fresh.")]


def register(app: typer.Typer) -> None:
    add(app, search)


@shared()
def search(
    settings: Settings,
    text: _Text = None,
    kind: _Kind = None,
    artifact_type: _ArtifactType = None,
    limit: _Limit = None,
    refresh: _Refresh = False,
) -> int:
    """Find repositories in the catalog.

    Lists the repositories whose name matches TEXT, or similar names if none matches. With `--kind` or `--artifact-type`, the newest
    version of each match is checked too, and the output has name, newest version, app version, age and kind.
    """
    from ..artifact.kinds import kinds_named
    from ..client.search import SearchQuery, registry_of
    from ..client.search import search as find

    if limit is not None and limit < 1:
        raise InputError(f"`--limit` takes 1 or more, not {limit}", code="usage", hint="omit it for no limit, or 200 with `--kind`")
    host, words = registry_of(text or "")
    query = SearchQuery(
        words,
        kinds_named(*(kind or ())),
        tuple(artifact_type or ()),
        limit,
        0.0 if refresh else None,
    )
    with settings.client() as client:
        found = find(client, host, query)
    return _show(settings, found, query)


def _show(settings: Settings, found: Searched, query: Any) -> int:
    from ..render.report import error_json

    report = settings.report
    if query.looks_inside:
        report.table(("name", "newest", "app version", "age", "kind"), [_row(one) for one in found.repositories if one.error is None])
    else:
        report.table(("name",), [(one.name,) for one in found.repositories])
    failed = [one for one in found.repositories if one.error is not None]
    data: dict[str, Any] = {
        "host": str(found.known.host),
        "match": found.way,
        "candidates": found.candidates,
        "lookedAt": found.looked_at,
        "unknown": found.unknown,
        "catalogAge": round(found.known.age),
        "catalogSize": len(found.known.names),
        "repositories": [_entry(one, str(found.known.host)) for one in found.repositories if one.error is None],
        "ghosts": list(found.ghosts),
        "failed": [{**error_json(one.error), "reference": f"{found.known.host}/{one.name}"} for one in failed if one.error is not None],
    }
    _remark(settings, found, query)
    if (error := found.failure()) is not None:
        report.failed(error, data)
        return error.exit_code
    report.data(data)
    return 0


def _remark(settings: Settings, found: Searched, query: Any) -> None:
    report, known = settings.report, found.known
    if known.stale is not None:
        report.warn(f"using the catalog of {span(known.age)} ago, because it could not be downloaded again: {known.stale.message}")
    shown = [one for one in found.repositories if one.error is None]
    if found.way == "near" and found.candidates:
        report.note(f"no name in the catalog of `{known.host}` contains `{query.text}`; these are similar")
    elif not shown:
        report.note(f"nothing found in the catalog of `{known.host}` ({counted(len(known.names), 'repository', 'repositories')})")
    if found.unknown:
        matches = counted(found.candidates, "match", "matches")
        report.note(f"{found.unknown} of {matches} not checked, because the cache lacks the manifests; run again without `--offline`")
    elif found.looked_at < found.candidates:
        verb = "checked" if query.looks_inside else "shown"
        report.note(f"only {found.looked_at} of {found.candidates} matches were {verb}; raise the number with `--limit N`")
    if found.ghosts:
        names = ", ".join(f"`{name}`" for name in found.ghosts[:3]) + (", …" if len(found.ghosts) > 3 else "")
        report.note(f"in the catalog, but without tags: {names} ({len(found.ghosts)})")
    unlisted = [one.name for one in shown if not one.listed]
    if unlisted:
        report.note(f"in the registry, but not in the catalog: {', '.join(f'`{name}`' for name in unlisted[:3])}")
    if known.age >= 60 and known.stale is None:
        report.note(f"the catalog is {span(known.age)} old; `--refresh` downloads it again")


def _row(one: FoundRepository) -> tuple[str, ...]:
    return (one.name, one.newest or "-", one.app_version or "-", age(one.created), one.kind or "-")


def _entry(one: FoundRepository, host: str) -> dict[str, Any]:
    return {
        "name": one.name,
        "reference": f"{host}/{one.name}",
        "kind": one.kind,
        "newest": one.newest,
        "tag": one.tag,
        "artifactType": one.artifact_type,
        "digest": one.digest,
        "created": one.created,
        "appVersion": one.app_version,
        "description": one.description,
        "listed": one.listed,
        "ghost": one.ghost,
        "missing": list(one.missing),
    }
