"""The locks that the host grants to this component, and the errors of its calls."""

import errno
import os
from collections.abc import Callable
from typing import Any

from componentize_py_types import Err

from ._wit import preopens

_lockspaces: list[tuple[Any, str]] | None = None

# None of those for a failure is EACCES or EAGAIN: programs take these for "locked by another"
# and try again, some for ever.
_NUMBERS = {
    "Timeout": errno.EAGAIN,
    "Deadlock": errno.EDEADLK,
    "Access": errno.EPERM,
    "ReadOnly": errno.EROFS,
    "NotPermitted": errno.EPERM,
    "FamilyMismatch": errno.ENOTSUP,
    "NoEntry": errno.ESTALE,
    "InvalidName": errno.ENOTSUP,
    "IsDirectory": errno.EISDIR,
    "NotAFile": errno.EINVAL,
    "Quota": errno.ENOLCK,
    "Unavailable": errno.ENOLCK,
    "Unsupported": errno.ENOTSUP,
    "Replaced": errno.ESTALE,
    "Lost": errno.EOWNERDEAD,
}


def kind_of(error: Err) -> str:
    """The name of an error of the interface, such as `Timeout`."""
    return type(error.value).__name__.removeprefix("ErrorCode_")


def os_error(error: Err, path: str | bytes | None = None) -> OSError:
    """An error of the interface as one of the operating system."""
    kind = kind_of(error)
    return OSError(_NUMBERS.get(kind, errno.EIO), f"the host answers {kind!r} to a lock", path)


def call(function: Callable[..., Any], *arguments: Any, path: str | bytes | None = None) -> Any:
    """Calls a function of the interface; its errors are raised as `OSError`."""
    try:
        return function(*arguments)
    except Err as error:
        raise os_error(error, path) from None


def lockspace_of(path: str) -> tuple[Any, str]:
    """The lockspace that a path is in, and the name of the file there (S19)."""
    global _lockspaces
    if _lockspaces is None:
        _lockspaces = preopens.get_lockspaces()
    parts = _parts(os.path.join(os.getcwd(), path))
    best = None
    for space, granted in _lockspaces:
        prefix = _parts(granted)
        if parts[: len(prefix)] == prefix and (best is None or len(prefix) >= len(best[1])):
            best = (space, prefix)
    if best is None:
        reason = "the host has granted no locks for this path (`clasp run --locks`)"
        raise OSError(errno.ENOTSUP, reason, path)
    return best[0], "/".join(parts[len(best[1]) :])


def make_directory(path: str) -> None:
    """Makes the directory that a lock file is in, as `fasteners` does."""
    directory = os.path.dirname(path)
    if directory and not os.path.exists(directory):
        os.makedirs(directory)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
