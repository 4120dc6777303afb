"""Imports oras-py without what only other uses of it need. That would take a third of the start-up time.

While oras-py is imported, `sys.modules` has placeholders for some packages, and `re.compile` gives some modules placeholders for patterns.
Both are removed afterwards. A placeholder loads the real package, or compiles the pattern, as soon as something uses it. This module must
be imported before any other that imports requests or urllib3 (docs/decisions/0022-loading-oras-py.md).

- jsonschema: oras-py 0.2.43 validates manifests with it, in functions that marfetch does not call.
- charset_normalizer: requests 2.34 guesses the encoding of text with it. marfetch reads bytes.
- idna: requests and urllib3 import it themselves when they meet a host name that is not ASCII. requests also imports it at the start.
- importlib.metadata: urllib3 2.8 asks it for the version of an HTTP/2 package, if a program turns on HTTP/2.
- `_COMPILED_LATER` compile 40 patterns, most of them for IPv6 addresses, the dates of cookies, and encoded headers of mail.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """A placeholder that imports the real module when one of its attributes is used."""

    def __getattr__(self, name: str) -> Any:
        if name == "__path__":
            raise AttributeError(name)  # `from … import …` looks for it, and a module needs none
        self.remove()  # another thread may use the placeholder while oras-py is still being imported
        return getattr(importlib.import_module(self.__name__), name)

    def function(self, name: str) -> Callable[..., Any]:
        """Return a function that imports the real one when it is called."""

        def call(*arguments: Any, **options: Any) -> Any:
            return self.__getattr__(name)(*arguments, **options)

        return call

    def remove(self) -> None:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


def _version(package: str) -> str | None:
    """Return the version in a package's module `version`, without importing the package; None if there is none."""
    found = find_spec(package)
    path = Path(next(iter(found.submodule_search_locations or ()), "")) / "version.py" if found else None
    if path is None or not path.is_file():
        return None
    spec = spec_from_file_location(f"{package}.version", path)
    if spec is None or spec.loader is None:
        return None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, "__version__", None)


def _placeholders() -> list[_Deferred]:
    """Return the placeholders, with the attributes that are used while oras-py is being imported."""
    metadata = _Deferred("importlib.metadata")
    metadata.__dict__["version"] = metadata.function("version")
    placeholders = [_Deferred("jsonschema"), _Deferred("idna"), metadata]
    version = _version("charset_normalizer")
    if version is not None:  # otherwise requests uses another package, or none
        detector = _Deferred("charset_normalizer")
        detector.__dict__["__version__"] = version
        placeholders.append(detector)
    return placeholders


class _Pattern:
    """A placeholder that compiles the real pattern when one of its attributes is used."""

    def __init__(self, text: Any, flags: Any) -> None:
        self._text, self._flags = text, flags

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # of `copy` and `pickle`
        value = getattr(re.compile(self._text, self._flags), name)
        self.__dict__[name] = value
        return value


_COMPILED_LATER = ("urllib3.util.url", "http.cookiejar", "email.header", "email.utils", "oras.auth.ecr")
"""Modules that use their patterns only through methods of the pattern."""


@contextmanager
def _deferring() -> Iterator[None]:
    """Put the placeholders in place for the duration of the context. A package that is already loaded stays."""
    placeholders, compiled = _placeholders(), re.compile

    def compile_later(text: Any, flags: Any = 0) -> Any:
        is_later = sys._getframe(1).f_globals.get("__name__") in _COMPILED_LATER  # noqa: SLF001 - so other threads are not affected
        return (_Pattern if is_later else compiled)(text, flags)

    for placeholder in placeholders:
        sys.modules.setdefault(placeholder.__name__, placeholder)
    re.compile = compile_later  # type: ignore[assignment]
    try:
        yield
    finally:
        re.compile = compiled
        for placeholder in placeholders:
            placeholder.remove()


with _deferring():
    import oras.container
    import oras.provider

__all__ = ["oras"]
