"""Locks between processes for Python in WebAssembly, with the names of `fasteners`.

A waiter is woken by the release: nothing polls, and the arguments `delay`, `max_delay`,
`sleep_func` and `logger` of `fasteners` have no effect. Two objects of one program exclude each
other, and one object is acquired once. Failures are `OSError`: `errno.EDEADLK` where the program
would wait for itself, `errno.EAGAIN` where the host allows no longer wait. There is no
`ReaderWriterLock`: a component has one thread.

Code that calls `fcntl`, such as `fasteners` itself, needs none of this: the module `fcntl` of this
distribution serves it.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from componentize_py_types import Err

from ._host import call, kind_of, lockspace_of, make_directory, os_error
from ._wit import semaphores, types

__all__ = [
    "InterProcessLock",
    "InterProcessReaderWriterLock",
    "InterProcessSemaphore",
    "interprocess_limited",
    "interprocess_locked",
    "interprocess_read_locked",
    "interprocess_write_locked",
]


_P = ParamSpec("_P")
_R = TypeVar("_R")

_Path = str | bytes | os.PathLike[str]


def _nanoseconds(timeout: float | None) -> int | None:
    """A timeout in seconds as the interface takes it."""
    if timeout is None:
        return None
    if not timeout >= 0:
        raise ValueError("the timeout must not be negative")
    nanoseconds = timeout * 1_000_000_000
    # What 64 bits cannot hold is 584 years away.
    return int(nanoseconds) if nanoseconds < 2**64 - 1 else None


class _Lock:
    """What an object acquires once and releases: a lock, or permits of a semaphore."""

    path: str | bytes
    _guard_type: Any = types.Guard

    def __init__(
        self, path: _Path, sleep_func: Any = None, logger: Any = None
    ) -> None:
        self.path = os.fspath(path)
        self._lock: Any = None
        self._guard: Any = None

    def _open_in(self, space: Any, name: str) -> Any:
        return space.open(name)

    @property
    def acquired(self) -> bool:
        """Whether it is held by this object."""
        return self._guard is not None

    def exists(self) -> bool:
        """Whether the lock file exists."""
        return os.path.exists(self.path)

    def _open(self) -> Any:
        if self._lock is None:
            path = os.fsdecode(self.path)
            space, name = lockspace_of(path)
            make_directory(path)
            try:
                self._lock = self._open_in(space, name)
            except Err as error:
                raise os_error(error, self.path) from None
        return self._lock

    def _acquire(self, what: Any, blocking: bool, timeout: float | None) -> bool:
        """Acquires a lock in a mode, or so many permits."""
        if self.acquired:
            raise RuntimeError("it is held by this object already")
        limit = _nanoseconds(timeout)
        lock = self._open()
        try:
            if blocking:
                self._guard = lock.acquire(what, limit)
            else:
                self._guard = lock.try_acquire(what)
        except Err as error:
            # Without a timeout of the caller it is the longest wait that the host allows.
            if kind_of(error) == "Timeout" and timeout is not None:
                return False
            raise os_error(error, self.path) from None
        finally:
            if not self.acquired:
                self._close()
        return self.acquired

    def _close(self) -> None:
        if self._lock is not None:
            lock, self._lock = self._lock, None
            lock.__exit__(None, None, None)

    def check(self) -> None:
        """Raises `OSError` if the lock was lost meanwhile, as one on a server can be, or if its file
        was replaced (`errno.ESTALE`)."""
        call(self._held().check, path=self.path)

    def fencing_token(self) -> int:
        """A number that is greater than that of any earlier exclusive holder, or holder of one of these
        permits."""
        token: int = call(self._held().fencing_token, path=self.path)
        return token

    def _held(self) -> Any:
        if not self.acquired:
            raise RuntimeError("it is not held by this object")
        return self._guard

    def _release(self) -> None:
        """Releases the lock in any case, and raises as `check` does."""
        guard, self._guard = self._held(), None
        try:
            call(self._guard_type.release, guard, path=self.path)
        finally:
            self._close()

    def _end(self) -> None:
        """Releases the lock at the end of a block. An error would hide the one that left it."""
        guard, self._guard = self._held(), None
        guard.__exit__(None, None, None)
        self._close()


class InterProcessLock(_Lock):
    """A lock on a file, which one program holds at a time."""

    def acquire(
        self,
        blocking: bool = True,
        delay: float | None = None,
        max_delay: float | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Takes the lock; false if that was not possible at once, or within `timeout` seconds."""
        return self._acquire(types.Mode.EXCLUSIVE, blocking, timeout)

    def release(self) -> None:
        """Releases the lock in any case, and raises as `check` does."""
        self._release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()


class InterProcessReaderWriterLock(_Lock):
    """A lock on a file, which many readers or one writer hold at a time."""

    def acquire_read_lock(
        self,
        blocking: bool = True,
        delay: float | None = None,
        max_delay: float | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Takes the lock shared; false if that was not possible at once, or within `timeout`."""
        return self._acquire(types.Mode.SHARED, blocking, timeout)

    def acquire_write_lock(
        self,
        blocking: bool = True,
        delay: float | None = None,
        max_delay: float | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Takes the lock exclusively; false if that was not possible."""
        return self._acquire(types.Mode.EXCLUSIVE, blocking, timeout)

    def release_read_lock(self) -> None:
        """Releases the lock in any case, and raises as `check` does."""
        self._release()

    def release_write_lock(self) -> None:
        """Releases the lock in any case, and raises as `check` does."""
        self._release()

    @contextlib.contextmanager
    def read_lock(
        self, delay: float | None = None, max_delay: float | None = None
    ) -> Iterator[None]:
        """Holds the lock shared."""
        self.acquire_read_lock()
        try:
            yield
        finally:
            self._end()

    @contextlib.contextmanager
    def write_lock(
        self, delay: float | None = None, max_delay: float | None = None
    ) -> Iterator[None]:
        """Holds the lock exclusively."""
        self.acquire_write_lock()
        try:
            yield
        finally:
            self._end()


class InterProcessSemaphore(_Lock):
    """A file with so many permits, from 1 to 64: at most so many programs hold one at a time.

    Open it with the same number of permits everywhere, and use its file for nothing else. An object
    holds permits once at a time. Requests are served in the order in which they came.
    """

    permits: int
    _guard_type = semaphores.Permit

    def __init__(self, path: _Path, permits: int) -> None:
        super().__init__(path)
        self.permits = permits

    def _open_in(self, space: Any, name: str) -> Any:
        return semaphores.Semaphore.open(space, name, self.permits)

    def acquire(
        self, blocking: bool = True, timeout: float | None = None, count: int = 1
    ) -> bool:
        """Takes `count` permits, all at once; false if that was not possible at once, or within
        `timeout` seconds."""
        return self._acquire(count, blocking, timeout)

    def release(self) -> None:
        """Releases the permits in any case, and raises as `check` does."""
        self._release()

    @property
    def numbers(self) -> list[int]:
        """The numbers of the permits that this object holds, from zero, in ascending order. No two
        holders have the same number at the same time."""
        numbers: list[int] = self._held().numbers()
        return numbers

    @property
    def number(self) -> int:
        """The least of `numbers`."""
        return self.numbers[0]

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()


def _locked(
    hold: Callable[[], contextlib.AbstractContextManager[Any]],
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def wrapper(*arguments: _P.args, **named: _P.kwargs) -> _R:
            with hold():
                return function(*arguments, **named)

        return wrapper

    return decorate


def interprocess_locked(path: _Path) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Runs a function under an `InterProcessLock`, a new one for each call."""
    return _locked(lambda: InterProcessLock(path))


def interprocess_read_locked(path: _Path) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Runs a function under a shared lock."""
    return _locked(lambda: InterProcessReaderWriterLock(path).read_lock())


def interprocess_write_locked(path: _Path) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Runs a function under the exclusive side of a reader-writer lock."""
    return _locked(lambda: InterProcessReaderWriterLock(path).write_lock())


def interprocess_limited(
    path: _Path, permits: int
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Runs a function with a permit of an `InterProcessSemaphore`: at most `permits` run at a time,
    in all programs."""
    return _locked(lambda: InterProcessSemaphore(path, permits))
