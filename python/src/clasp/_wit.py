"""The interfaces of the host. If the program has another interface of the same name,
componentize-py puts the package before it."""

import importlib
import importlib.util
from typing import Any


def _interface(name: str) -> Any:
    named = f"wit_world.imports.clasp_locks_{name}"
    if importlib.util.find_spec(named) is None:
        named = f"wit_world.imports.{name}"
    return importlib.import_module(named)


flock = _interface("flock")
preopens = _interface("preopens")
ranges = _interface("ranges")
semaphores = _interface("semaphores")
types = _interface("types")
