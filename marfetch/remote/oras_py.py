"""Imports oras-py without jsonschema, because importing jsonschema takes a quarter of the start-up time.

`oras.provider` 0.2.43 uses jsonschema only to validate manifests, in functions that marfetch does not call. While oras-py is imported,
`sys.modules` has a placeholder for jsonschema. The placeholder is removed afterwards. If a function of oras-py uses the placeholder, it
loads the real package.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_NAME = "jsonschema"


class _Deferred(ModuleType):
    """A placeholder that imports the real module when one of its attributes is used."""

    def __getattr__(self, name: str) -> Any:
        _remove(self)  # another thread may use the placeholder while oras-py is still being imported
        return getattr(importlib.import_module(_NAME), name)


def _remove(placeholder: ModuleType) -> None:
    if sys.modules.get(_NAME) is placeholder:
        del sys.modules[_NAME]


_placeholder = _Deferred(_NAME)
sys.modules.setdefault(_NAME, _placeholder)
try:
    import oras.container
    import oras.provider
finally:
    _remove(_placeholder)

__all__ = ["oras"]
