"""What is on this machine: variables, the cache, Helm and its plugins. Asks no host."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..content import Progress
from ..endpoint import DATA_ENVIRONMENT, ENVIRONMENT, Endpoint
from ..errors import Error, StorageError
from ..helm.setup import GETTER, PLUGIN, plugins_directory, starts
from ..layout import maintenance
from ..layout.cache import cache_root
from ..layout.layout import Layout
from ..text import human_size
from .findings import Finding, fault, ok, warning

LITTLE_ROOM: Final = 1 << 30
"""Bytes; less than this on the disk of the cache is said."""
HELM_TIME: Final = 5.0
"""Seconds that Helm gets to say its version."""
_REPLACING: Final = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables whose certificates replace the system's, in the order in which they count."""
_OTHERS: Final = {
    "SSL_CERT_DIR": "marfetch takes it where OpenSSL does; other programs trust what is in it",
    "CURL_CA_BUNDLE": "marfetch does not read it; curl and programs of its kind do",
    "PYTHONHTTPSVERIFY": "it has no effect on marfetch, which always verifies; other programs may not",
    "SSLKEYLOGFILE": "the keys of every connection are written into a file: whoever has it can read along",
    "HELM_KUBEINSECURE_SKIP_TLS_VERIFY": "Helm does not verify its cluster's certificate",
}


def endpoint(chosen: Endpoint) -> Finding:
    """Which registry is asked."""
    if chosen.official:
        return ok("endpoint", f"`{chosen.registry.name}`, the official endpoint `{chosen.name}`")
    return warning(
        "endpoint",
        f"`{chosen.name}` is not an official endpoint of MAR",
        "Microsoft endorses no mirrors: they may serve altered content; official hosts were not looked at",
        "for MAR itself leave `--endpoint` out, or use `--endpoint global` or `--endpoint china`",
    )


def environment(variables: Mapping[str, str], *, ca_file: str | None) -> Iterator[Finding]:
    """Variables that change what is trusted or asked."""
    found: list[Finding] = []
    replacing = [("--ca-file", ca_file)] if ca_file else [(name, variables.get(name)) for name in _REPLACING]
    used = next(((name, path) for name, path in replacing if path), None)
    if used is not None:
        name, path = used
        if not Path(str(path)).exists():
            found.append(
                fault(
                    "environment",
                    f"`{name}` names `{path}`, which is not there",
                    "nothing is trusted then, and no connection by https comes about",
                    f"take `{name}` away, or give it a file with certificates in PEM form",
                )
            )
        else:
            found.append(
                warning(
                    "environment",
                    f"`{name}` is `{path}`",
                    "its certificates are trusted in place of the system's",
                    f"where certificates are not trusted, look there first; without `{name}` the system's store counts",
                )
            )
    for name, means in _OTHERS.items():
        if variables.get(name):
            found.append(warning("environment", f"`{name}` is `{variables[name]}`", means, f"take `{name}` away if it is not meant"))
    named = [f"`{name}` is `{variables[name]}`" for name in (ENVIRONMENT, DATA_ENVIRONMENT) if variables.get(name)]
    if named:
        found.append(ok("environment", " and ".join(named)))
    yield from found or [ok("environment", "no variable changes what is trusted or asked")]


def cache(directory: Path | None, progress: Progress) -> Finding:
    """Rights, room and damage of the cache directory."""
    try:
        root = cache_root(directory)
    except StorageError as error:
        return warning("cache", error.message, "what is fetched is kept for one run only", error.hint)
    other = "use `--cache-dir` or `MARFETCH_CACHE_DIR` with another directory"
    if not root.exists():
        above = next((one for one in root.parents if one.exists()), root)
        if not os.access(above, os.W_OK):
            return warning("cache", f"`{root}` is not there and cannot be made", "what is fetched is kept for one run only", other)
        return ok("cache", f"`{root}` is not there yet; it is made when something is fetched")
    try:
        layout = Layout(root, warn=progress.warn)
        known = maintenance.info(layout)
        damage = layout.names.damage()
    except Error as error:
        return fault("cache", error.message, "nothing can be fetched with this cache", error.hint)
    except OSError as error:
        return fault("cache", f"`{root}`: {(error.strerror or str(error)).lower()}", "nothing can be fetched with this cache", other)
    if damage:
        return warning("cache", damage, "another program has written into the cache, or a disk was full", "marfetch cache verify --fix")
    if not layout.is_writable:
        return warning("cache", f"`{root}` cannot be written", "what is fetched is kept for one run only", other)
    free = shutil.disk_usage(root).free
    shown = f"`{root}` has {known.blobs} blobs of {human_size(known.size)}; {human_size(free)} are free"
    if free < LITTLE_ROOM:
        return warning("cache", shown, "large artifacts will not fit", f"make room (`marfetch cache prune`), or {other}")
    return ok("cache", shown)


def helm(variables: Mapping[str, str]) -> Finding:
    """Helm, and both plugins."""
    program = variables.get("HELM_BIN") or shutil.which("helm")
    version = _helm_version(program) if program else None
    named = f"Helm {version}" if version else "Helm is there, but does not say its version" if program else "Helm is not on this machine"
    try:
        plugins = plugins_directory(variables, patience=HELM_TIME)
    except StorageError as error:
        return warning("helm", f"{named}; {error.message}", "whether the plugins are installed cannot be seen", error.hint)
    state = starts(plugins)
    if not state:
        return ok("helm", f"{named}; the plugins are not installed (`marfetch setup` does)")
    for name in (PLUGIN, GETTER):
        if name not in state:
            return warning(
                "helm",
                f"{named}; of the two plugins `{name}` is missing in `{plugins}`",
                "`mar://` addresses do not work" if name == GETTER else "`helm marfetch` does not work",
                "marfetch setup",
            )
    broken = {name: program for name, program in state.items() if program is not None and not Path(program).exists()}
    for name, gone in broken.items():
        return warning(
            "helm",
            f"{named}; the plugin `{name}` starts `{gone}`, which is gone",
            "the environment that it was installed from was removed or moved",
            "run `marfetch setup` in the environment that is there now",
        )
    return ok("helm", f"{named}; both plugins are in `{plugins}`")


def _helm_version(program: str) -> str | None:
    with suppress(OSError, subprocess.SubprocessError):
        line = [program, "version", "--template", "{{.Version}}"]
        done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=HELM_TIME)  # noqa: S603
        return done.stdout.strip()[:40] or None
    return None
