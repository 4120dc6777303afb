"""Compare two artifacts. Charts and Bicep modules are compared by structure; other artifacts are compared file by file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..artifact.kinds import BICEP_MODULE, CHART
from ..artifact.module import parse_template
from ..chart.expected import CHART_FILE
from ..chart.parts import VALUES_FILE
from ..client.pull import PullOptions
from ..client.pull import found as find_layers
from ..client.resolve import Found, Resolved
from ..client.session import Session
from ..destination.package import with_subcharts
from ..document import Json, parse_yaml
from ..errors import Error, PolicyError
from ..files import storage_error
from ..project.lockfile import Entry, Lock
from ..project.locking import refuse_misfits, request_of, resolve_locked, resolve_upgrade
from ..project.outdated import moved_images
from ..project.wanted import Item, Project
from .changes import Change, Difference, LineDiff, Section, changed_keys, changed_names, flat, section
from .contents import FileContent, contents


def compare(client: Session, old: Resolved, new: Resolved, request: PullOptions | None = None) -> Difference:
    """Compare two artifacts.

    Args:
        request: selects the layers and the platform to compare; None for the defaults. Its destination is ignored.

    Raises:
        Error: an artifact cannot be fetched or does not match the request.
    """
    request = (request or PullOptions(Path()))._replace(untar=Path())
    if old.reference.digest == new.reference.digest:
        found = find_layers(client, new, request)
        return Difference(old.reference, new.reference, found.kind.name)
    before, after = (find_layers(client, one, request) for one in (old, new))
    lines = LineDiff(client.budget.check)
    sections = _manifest(before, after)
    old_files, new_files = (contents(client, one) for one in (before, after))
    if before.kind is CHART and after.kind is CHART:
        sections += _charts(old_files, new_files, lines)
    elif before.kind is BICEP_MODULE and after.kind is BICEP_MODULE:
        sections += _modules(before, after, old_files, new_files, lines)
    else:
        sections += section("files", _changed_files(lines, *_aligned(before, after, old_files, new_files)))
    return Difference(old.reference, new.reference, after.kind.name, sections)


def _manifest(old: Found, new: Found) -> tuple[Section, ...]:
    """Compare the manifests. Annotations that change with every build are ignored: the creation time and the version."""

    def facts(found: Found) -> dict[str, Json]:
        manifest = found.manifest
        notes = {f"annotation {key}": value for key, value in manifest.annotations.items() if not key.endswith((".created", ".version"))}
        types = sorted(layer.media_type for layer in manifest.layers)
        return {"kind": found.kind.name, "artifactType": manifest.effective_type, "layers": ", ".join(types), **notes}

    return section("manifest", changed_keys(facts(old), facts(new)))


def _aligned(
    old: Found, new: Found, old_files: Mapping[str, FileContent], new_files: Mapping[str, FileContent]
) -> tuple[Mapping[str, FileContent], Mapping[str, FileContent]]:
    """Rename files so that names that differ only by the version (`foo-1.0.json`, `foo-1.1.json`) become equal."""
    if len(old_files) == 1 and len(new_files) == 1 and len(old.payloads) == 1 and len(new.payloads) == 1:
        name = new.payloads[0].name if new.payloads[0].unpacking is None else next(iter(new_files))
        if old.payloads[0].unpacking is None:
            return {name: next(iter(old_files.values()))}, {name: next(iter(new_files.values()))}
    return {_plain(path, old): file for path, file in old_files.items()}, {_plain(path, new): file for path, file in new_files.items()}


def _plain(path: str, found: Found) -> str:
    tag = found.resolved.reference.tag
    return path.replace(tag.replace("_", "+"), "VERSION", 1) if tag and len(tag) > 2 else path


def _charts(old: Mapping[str, FileContent], new: Mapping[str, FileContent], lines: LineDiff) -> tuple[Section, ...]:
    metadata = _changed_document(old, new, CHART_FILE, _metadata, lines)
    values = _changed_document(old, new, VALUES_FILE, flat, lines)
    templates = _changed_files(lines, _below(old, "templates/"), _below(new, "templates/"))
    definitions = _changed_files(lines, _below(old, "crds/"), _below(new, "crds/"))
    others = _changed_files(lines, *({path: file for path, file in files.items() if not _has_section(path)} for files in (old, new)))
    return (
        *section("Chart.yaml", metadata),
        *section("values", values),
        *section("images", changed_names(images(old), images(new))),
        *section("crds", definitions),
        *section("templates", templates),
        *section("files", others),
    )


def _has_section(path: str) -> bool:
    return path.startswith(("templates/", "crds/")) or path in (CHART_FILE, VALUES_FILE)


def _metadata(document: dict[str, Json]) -> dict[str, Json]:
    # Use the names of dependencies as keys: their positions may change.
    dependencies = document.get("dependencies")
    found = flat({key: value for key, value in document.items() if key != "dependencies"})
    for one in dependencies if isinstance(dependencies, list) else ():
        if isinstance(one, dict):
            found |= flat(
                {key: value for key, value in one.items() if key != "name"}, f"dependencies.{one.get('alias') or one.get('name')}"
            )
    return found


def _changed_document(
    old: Mapping[str, FileContent],
    new: Mapping[str, FileContent],
    path: str,
    flattened: Callable[[dict[str, Json]], dict[str, Json]],
    lines: LineDiff,
) -> list[Change]:
    """Compare a YAML file by its keys.

    The text is compared instead if the file cannot be parsed, if its paths are too long, or if all keys are equal.
    """
    before, after = (_yaml(files.get(path)) for files in (old, new))
    if isinstance(before, dict) and isinstance(after, dict):
        with suppress(PolicyError):
            changes = changed_keys(flattened(before), flattened(after))
            if changes:
                return changes
    return _changed_files(lines, *({path: files[path]} if path in files else {} for files in (old, new)))


def images(files: Mapping[str, FileContent]) -> tuple[str, ...]:
    """Return the container images that a chart names, sorted."""
    return with_subcharts({path: file.raw for path, file in files.items() if file.raw is not None}).images().images


def _modules(
    old: Found, new: Found, old_files: Mapping[str, FileContent], new_files: Mapping[str, FileContent], lines: LineDiff
) -> tuple[Section, ...]:
    before, after = (_template(files) for files in (old_files, new_files))
    if before is None or after is None:
        return section("files", _changed_files(lines, *_aligned(old, new, old_files, new_files)))
    rest = [{key: value for key, value in one.items() if key not in ("parameters", "outputs", "metadata")} for one in (before, after)]
    texts = [json.dumps(one, indent=2, sort_keys=True, ensure_ascii=False) for one in rest]
    body = [Change("changed", "main.json", lines=lines.unified(*texts))] if texts[0] != texts[1] else []
    return (
        *section("parameters", _changed_members(before, after, "parameters")),
        *section("outputs", _changed_members(before, after, "outputs")),
        *section("resources", changed_names(_resources(before), _resources(after))),
        *section("files", body),
    )


def _template(files: Mapping[str, FileContent]) -> dict[str, Any] | None:
    """Return the compiled ARM template of a Bicep module, or None if it is missing or invalid."""
    for path, file in files.items():
        if path.endswith(".json") and file.raw is not None:
            try:
                return parse_template(file.raw, f"`{path}`")
            except Error:
                return None
    return None


def _changed_members(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> list[Change]:
    before, after = old.get(name), new.get(name)
    return changed_keys(before if isinstance(before, dict) else {}, after if isinstance(after, dict) else {})


def _resources(template: Mapping[str, Any]) -> list[str]:
    """Return the type and API version of each resource, as `TYPE@VERSION`."""
    found = template.get("resources")
    resources = list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else []
    return [f"{one['type']}@{one.get('apiVersion', '')}" for one in resources if isinstance(one, dict) and "type" in one]


def _below(files: Mapping[str, FileContent], prefix: str) -> dict[str, FileContent]:
    return {path: file for path, file in files.items() if path.startswith(prefix)}


def _changed_files(lines: LineDiff, old: Mapping[str, FileContent], new: Mapping[str, FileContent]) -> list[Change]:
    changes: list[Change] = []
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if before is None or after is None:
            changes.append(Change("removed" if after is None else "added", path, _fact(before), _fact(after)))
        elif before.digest != after.digest:
            texts = before.text, after.text
            shown = lines.unified(texts[0], texts[1]) if texts[0] is not None and texts[1] is not None else ()
            changes.append(Change("changed", path, _fact(before), _fact(after), shown))
    return changes


def _fact(file: FileContent | None) -> Json:
    return {"size": file.size, "digest": f"sha256:{file.digest}"} if file is not None else None


def _yaml(file: FileContent | None) -> Json:
    if file is None or file.raw is None:
        return None
    try:
        return parse_yaml(file.raw, "it")
    except Error:
        return None


# -- comparing a lock file with the registry


def upstream(client: Session, project: Project, lock: Lock) -> tuple[list[tuple[str, Difference]], list[tuple[str, Error]]]:
    """Compare each locked artifact with the version that `lock --upgrade` would lock.

    Returns:
        Two lists in the order of the project file: the names and differences of artifacts that differ, and the names and errors of
        artifacts that could not be compared.

    Raises:
        LockError: `lock-outdated`.
    """
    refuse_misfits(project, lock)

    def one(item: Item) -> Difference | Error:
        try:
            entry = lock.by_name[item.name]
            new = resolve_upgrade(client, item, entry)
            old = resolve_locked(client, item, entry, asks_tag=False)
            found = compare(client, old, new, request_of(project, item))
            return replace(found, sections=found.sections + _images(client, item, entry))
        except Error as error:
            return error
        except OSError as error:
            return storage_error(error, str(error.filename or item.name))

    found = list(zip(project.items, client.each(one, project.items, label="comparing"), strict=True))
    different = [(item.name, result) for item, result in found if isinstance(result, Difference) and result.differs]
    return different, [(item.name, result) for item, result in found if isinstance(result, Error)]


def _images(client: Session, item: Item, entry: Entry) -> tuple[Section, ...]:
    """Return the locked images whose tags have another digest now."""
    changes = [
        Change("changed", one.image.image, str(one.image.manifest.digest), str(one.moved_to) if one.moved_to else "the tag is gone")
        for one in moved_images(client, item, entry)
        if one.image.manifest is not None and (one.moved_to or one.is_gone)
    ]
    return section("image digests", changes)
