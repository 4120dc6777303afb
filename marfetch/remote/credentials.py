"""Where the user's other tools keep the credentials of a registry: Helm's and Docker's configuration, and credential helpers.

Read only when a registry of the user's own has asked for credentials; never for MAR.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from ..reference import Host

_HELPER_TIME = 10.0  # seconds


@cache
def basic_credentials(host: Host) -> str | None:
    """`user:password` in base64 for this registry, from the first place that has it; None where there is none."""
    names = [str(host), host.name, f"https://{host}", f"https://{host.name}", f"https://{host}/v1/", f"https://{host}/v2/"]
    for path in _configurations():
        document = _read(path)
        auths = document.get("auths")
        helpers = document.get("credHelpers")
        for name in names:
            helper = helpers.get(name) if isinstance(helpers, dict) else None
            entry = auths.get(name) if isinstance(auths, dict) else None
            found = _ask_helper(helper, name) if helper else None
            found = found or (_entry(entry) if isinstance(entry, dict) else None)
            if found is None and document.get("credsStore") and isinstance(entry, dict):
                found = _ask_helper(document["credsStore"], name)
            if found:
                return found
    return None


def _configurations() -> Iterator[Path]:
    home = Path.home()
    named = os.environ.get("HELM_REGISTRY_CONFIG")
    if named:
        yield Path(named)
    elif sys.platform == "darwin":
        yield home / "Library/Preferences/helm/registry/config.json"
    elif os.name == "nt":
        yield Path(os.environ.get("APPDATA", home)) / "helm/registry/config.json"
    else:
        yield Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "helm/registry/config.json"
    docker = os.environ.get("DOCKER_CONFIG")
    yield (Path(docker) if docker else home / ".docker") / "config.json"


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document, dict):
            return document
    return {}


def _entry(entry: dict[str, Any]) -> str | None:
    auth = entry.get("auth")
    if not isinstance(auth, str) or not auth:
        return None
    with suppress(binascii.Error, ValueError):
        if b":" in base64.b64decode(auth, validate=True):
            return auth
    return None


def _ask_helper(helper: Any, name: str) -> str | None:
    """What `docker-credential-HELPER get` says (docker-credential-helpers, protocol); None where it fails or takes too long."""
    if not isinstance(helper, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", helper):
        return None
    with suppress(OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        answer = subprocess.run(  # noqa: S603 - the helper that the user has configured, by its name, without a shell
            [f"docker-credential-{helper}", "get"],
            input=name.encode(),
            capture_output=True,
            check=True,
            timeout=_HELPER_TIME,
        )
        document = json.loads(answer.stdout)
        return base64.b64encode(f"{document['Username']}:{document['Secret']}".encode()).decode()
    return None
