"""Local checks of environment variables, the cache, Helm and its plugins. These checks make no requests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..content import Progress
from ..endpoint import DATA_ENVIRONMENT, ENVIRONMENT, Endpoint
from ..errors import Error, StorageError
from ..files import find_program, free_space
from ..helm.setup import GETTER, PLUGIN, plugins_directory, starts
from ..layout import maintenance
from ..layout.cache import cache_root
from ..layout.layout import Layout
from ..remote.certificates import named_certificates
from ..text import human_size
from .findings import Finding, fault, ok, warning

LITTLE_ROOM: Final = 1 << 30
"""Less free space than this on the cache's disk, in bytes, is a warning."""
HELM_TIME: Final = 5.0
"""The timeout for Helm commands, in seconds."""
_OTHERS: Final = {
    "PYTHONHTTPSVERIFY": "marfetch ignores it and always verifies; other programs may not",
    "SSLKEYLOGFILE": "marfetch ignores it; other programs write connection keys to this file, and anyone who reads it can decrypt traffic",
    "HELM_KUBEINSECURE_SKIP_TLS_VERIFY": "Helm does not verify the cluster's certificate",
}


def endpoint(chosen: Endpoint) -> Finding:
    """Report the endpoint, and whether it is one of Microsoft's."""
    if chosen.official:
        return ok("endpoint", f"`{chosen.registry.name}`, the official endpoint `{chosen.name}`")
    return warning(
        "endpoint",
        f"`{chosen.name}` is not an official endpoint of MAR",
        "Microsoft endorses no mirrors, and they may serve altered content; the official hosts were not checked",
        "for MAR itself, remove `--endpoint`, or use `--endpoint global` or `--endpoint china`",
    )


def environment(variables: Mapping[str, str], *, ca_file: str | None) -> Iterator[Finding]:
    """Report environment variables that change trusted certificates or the endpoint."""
    found: list[Finding] = []
    for name, path in named_certificates(ca_file, variables):
        if not Path(path).exists():
            found.append(
                fault(
                    "environment",
                    f"`{name}` is `{path}`, which does not exist",
                    "no certificate is trusted, so every HTTPS connection fails",
                    f"unset `{name}`, or set it to PEM certificates",
                )
            )
        else:
            found.append(
                warning(
                    "environment",
                    f"`{name}` is `{path}`",
                    "its certificates replace the system's",
                    f"if a certificate is not trusted, check this first, or unset `{name}` to use the system's",
                )
            )
    for name, means in _OTHERS.items():
        if variables.get(name):
            found.append(warning("environment", f"`{name}` is `{variables[name]}`", means, f"unset `{name}` if it is not intended"))
    named = [f"`{name}` is `{variables[name]}`" for name in (ENVIRONMENT, DATA_ENVIRONMENT) if variables.get(name)]
    if named:
        found.append(ok("environment", " and ".join(named)))
    yield from found or [ok("environment", "no variable changes trusted certificates or the endpoint")]


def cache(directory: Path | None, progress: Progress) -> Finding:
    """Check the cache directory for missing permissions, low disk space and damage."""
    try:
        root = cache_root(directory)
    except StorageError as error:
        return warning("cache", error.message, "downloads are cached for one run only", error.hint)
    other = "use `--cache-dir` or `MARFETCH_CACHE_DIR` with another directory"
    if not root.exists():
        above = next((one for one in root.parents if one.exists()), root)
        if not os.access(above, os.W_OK):
            return warning("cache", f"`{root}` does not exist and cannot be created", "downloads are cached for one run only", other)
        return ok("cache", f"`{root}` does not exist yet; the first download creates it")
    try:
        layout = Layout(root, warn=progress.warn)
        known = maintenance.info(layout)
        damage = layout.names.damage()
    except Error as error:
        return fault("cache", error.message, "downloads with this cache fail", error.hint)
    except OSError as error:
        return fault("cache", f"`{root}`: {(error.strerror or str(error)).lower()}", "downloads with this cache fail", other)
    if damage:
        return warning("cache", damage, "another program wrote to the cache, or the disk was full", "run `marfetch cache verify --fix`")
    if not layout.is_writable:
        return warning("cache", f"`{root}` is not writable", "downloads are cached for one run only", other)
    free = free_space(root)
    shown = f"`{root}` has {known.blobs} blobs of {human_size(known.size)}"
    if free is None:
        return ok("cache", shown)
    shown += f"; {human_size(free)} are free"
    if free < LITTLE_ROOM:
        return warning("cache", shown, "large artifacts will not fit", f"free disk space (`marfetch cache prune`), or {other}")
    return ok("cache", shown)


def helm(variables: Mapping[str, str]) -> Finding:
    """Check Helm and both plugins."""
    program = variables.get("HELM_BIN") or find_program("helm", variables)
    version = _helm_version(program) if program else None
    named = f"Helm {version}" if version else "Helm does not report its version" if program else "Helm is not installed"
    try:
        plugins = plugins_directory(variables, patience=HELM_TIME)
    except StorageError as error:
        return warning("helm", f"{named}; {error.message}", "the plugins could not be checked", error.hint)
    state = starts(plugins)
    if not state:
        return ok("helm", f"{named}; the plugins are not installed (run `marfetch setup`)")
    for name in (PLUGIN, GETTER):
        if name not in state:
            return warning(
                "helm",
                f"{named}; the plugin `{name}` is missing in `{plugins}`",
                "`mar://` addresses do not work" if name == GETTER else "`helm marfetch` does not work",
                "run `marfetch setup`",
            )
    broken = {name: program for name, program in state.items() if program is not None and not Path(program).exists()}
    for name, gone in broken.items():
        return warning(
            "helm",
            f"{named}; the plugin `{name}` runs `{gone}`, which no longer exists",
            "the environment that it was installed from was removed or moved",
            "run `marfetch setup` in the current environment",
        )
    return ok("helm", f"{named}; both plugins are in `{plugins}`")


def _helm_version(program: str) -> str | None:
    with suppress(OSError, subprocess.SubprocessError):
        line = [program, "version", "--template", "{{.Version}}"]
        done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=HELM_TIME)  # noqa: S603
        return done.stdout.strip()[:40] or None
    return None
