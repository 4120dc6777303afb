"""marfetch: fetch the artifacts of the Microsoft Artifact Registry (MAR, `mcr.microsoft.com`), every byte checked.

```python
from marfetch import Client

with Client() as client:
    for file in client.pull("application-lb/charts/alb-controller", version="^1.7", to="charts"):
        print(file.path, file.digest)
```

Importing the package loads nothing and reaches no network; each name is loaded on its first use. Every failure is a `marfetch.Error` with
`code`, `message`, `hint` and `exit_code`. `marfetch.library` has the types of the values that a `Client` returns.
"""

__version__ = "0.1.0"
__all__ = ["Client", "Constraint", "Error", "Reference"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .constraint import Constraint
    from .errors import Error
    from .library import Client
    from .reference import Reference
else:
    _HOMES = {"Client": "library", "Constraint": "constraint", "Error": "errors", "Reference": "reference"}

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # late: keeps the import of the package fast

        value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
