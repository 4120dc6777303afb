"""`marfetch search`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from .options import Settings, shared

if TYPE_CHECKING:
    from ..client.search import FoundRepository, Searched

_Text = Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Words or a glob; a host or oci:// in front chooses the registry.")]
_Kind = Annotated[list[str] | None, typer.Option("--kind", metavar="KIND", help="Only what really holds this kind, such as chart.")]
_ArtifactType = Annotated[list[str] | None, typer.Option("--artifact-type", metavar="GLOB", help="Only what has this artifact type.")]
_Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="How many names; with --kind how many are looked into (200).")]
_Refresh = Annotated[bool, typer.Option("--refresh", help="Ask for the catalog now, however young the kept one is.")]


def register(app: typer.Typer) -> None:
    app.command()(search)


@shared()
def search(
    settings: Settings,
    text: _Text = None,
    kind: _Kind = None,
    artifact_type: _ArtifactType = None,
    limit: _Limit = None,
    refresh: _Refresh = False,
) -> int:
    """Find repositories by name: words, a glob, or something like it.

    With `--kind` or `--artifact-type`, by what the newest version really holds: name, newest version, app version, age and kind.
    """
    from ..artifact.kinds import kinds_named
    from ..client.search import SearchQuery, registry_of
    from ..client.search import search as find

    if limit is not None and limit < 1:
        raise InputError(f"`--limit` takes a number from 1 on, not {limit}", code="usage", hint="leave it out for 200 with `--kind`")
    host, words = registry_of(text or "")
    wish = SearchQuery(
        words,
        tuple(one for named in kind or () for one in kinds_named(named)),
        tuple(artifact_type or ()),
        limit,
        0.0 if refresh else None,
    )
    with settings.client() as client:
        found = find(client, host, wish)
    return _show(settings, found, wish)


def _show(settings: Settings, found: Searched, wish: Any) -> int:
    from ..render.report import error_json

    report = settings.report
    now = datetime.now(UTC)
    if wish.looks_inside:
        report.table(("name", "newest", "app version", "age", "kind"), [_row(one, now) for one in found.repositories if one.error is None])
    else:
        for one in found.repositories:
            report.line(one.name)
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
    _remark(settings, found, wish)
    if (error := found.failure()) is not None:
        report.failed(error, data)
        return error.exit_code
    report.data(data)
    return 0


def _remark(settings: Settings, found: Searched, wish: Any) -> None:
    report, known = settings.report, found.known
    if known.stale is not None:
        report.warn(f"the catalog could not be asked for, that of {_span(known.age)} ago is taken: {known.stale.message}")
    shown = [one for one in found.repositories if one.error is None]
    if found.way == "near" and found.candidates:
        report.note(f"no name in the catalog of `{known.host}` holds `{wish.text}`; these are near")
    elif not shown:
        report.note(f"nothing found among the {len(known.names)} repositories of `{known.host}`")
    if found.unknown:
        report.note(f"what {found.unknown} of {found.candidates} names that fit hold is not in the cache: run it again without `--offline`")
    elif found.looked_at < found.candidates:
        looked = "looked into" if wish.looks_inside else "shown"
        report.note(f"{found.looked_at} of {found.candidates} names that fit were {looked}, the nearest ones; `--limit N` takes more")
    if found.ghosts:
        count = len(found.ghosts)
        which = ", ".join(f"`{name}`" for name in found.ghosts[:3]) + (", …" if count > 3 else "")
        report.note(f"in the catalog, but without tags: {which} ({count})")
    unlisted = [one.name for one in shown if not one.listed]
    if unlisted:
        report.note(f"not in the catalog, but known to be there: {', '.join(f'`{name}`' for name in unlisted[:3])}")
    if known.age >= 60 and known.stale is None:
        report.note(f"by the catalog of {_span(known.age)} ago; `--refresh` asks for it now")


def _row(one: FoundRepository, now: datetime) -> tuple[str, ...]:
    return (one.name, one.newest or "-", one.app_version or "-", _age(one.created, now), one.kind or "-")


def _age(created: str | None, now: datetime) -> str:
    """How long ago something was made, for people; `-` where nobody says or it cannot be read."""
    try:
        made = datetime.fromisoformat(created or "")
    except ValueError:
        return "-"
    return _span((now - (made if made.tzinfo else made.replace(tzinfo=UTC))).total_seconds())


def _span(seconds: float) -> str:
    for size, unit in ((86_400 * 365, "year"), (86_400, "day"), (3600, "hour"), (60, "minute")):
        count = int(max(0.0, seconds) // size)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "moments"


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
