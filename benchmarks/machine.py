"""Describe the machine and the versions of a measurement."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from marfetch import __version__
from tests.world import tools

CLIENTS = ("helm4", "helm3", "oras", "regctl", "regsync", "crane", "registry")


def described() -> list[str]:
    """Return one paragraph about the machine and one about the clients."""
    model = next(iter(re.findall(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))), platform.machine())
    memory = int(next(iter(re.findall(r"MemTotal:\s*(\d+)", _read("/proc/meminfo"))), "0")) >> 20
    # Without profile-guided optimization, the interpreter starts half as fast.
    tuned = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    # Linux distributions optimize their interpreters too, but record it elsewhere.
    built = "system package" if sys.base_prefix == "/usr" else f"built {'with' if tuned else 'without'} `--enable-optimizations`"
    python = f"Python {platform.python_version()} ({built})"
    pinned = {tool.name: tool.version for tool in tools.ALL}
    versions = [f"{name} {pinned[name].removeprefix('v')}" for name in CLIENTS]
    versions += [f"skopeo {_skopeo()}", *(f"{name} {importlib.metadata.version(name)}" for name in ("oras", "requests", "urllib3"))]
    here = (
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}. {model}, {os.cpu_count()} processors, {memory} GiB, {platform.system()} {platform.release()},"
        f" {python}."
    )
    return [
        here,
        f"marfetch {__version__}; {', '.join(versions[:-3])}; Python packages: {', '.join(versions[-3:])}.",
    ]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _skopeo() -> str:
    path = tools.find("skopeo")
    if path is None:
        return "not installed"
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return next(iter(re.findall(r"\d+(?:\.\d+)+", said)), "of unknown version")
