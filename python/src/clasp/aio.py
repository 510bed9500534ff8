"""The locks of `clasp` for programs of WASI 0.3, as coroutines: while one task waits for a lock,
the others go on.

The world of such a program is `clasp:python/async-command`, or one of its own that includes
`clasp:python/async-imports`. The names and the arguments are those of the module `clasp`; methods
that may wait, or use the disk, are coroutines, and locks are used with `async with`.

Tasks may share an object, as with `asyncio.Lock`: one that asks while another has the lock waits.
Such a wait is no error, even if nobody is going to release the lock: give it a timeout.

Use the argument `timeout`: `asyncio.wait_for` and `asyncio.timeout` raise `NotImplementedError` in
componentize-py 0.25.1, whose event loop has no clock. It does not cancel a call in the host either.
If a task is cancelled while it waits, its request stays in the queue; when the lock is granted, it is
released at once.
"""

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from componentize_py_types import Err

from . import _Path, _nanoseconds
from ._host import kind_of, lockspace_of, make_directory, os_error
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


async def _guard(opening: Awaitable[Any], what: Any, blocking: bool, limit: int | None) -> Any:
    """A guard, or None."""
    with await opening as lock:
        if blocking:
            return await lock.acquire(what, limit)
        return await lock.try_acquire(what)


async def _whole(request: Awaitable[Any]) -> Any:
    """Awaits a request as a whole. If the task is cancelled meanwhile, the request goes on, as its
    calls of the host do, and its guard is released as soon as it is there."""
    task = asyncio.ensure_future(request)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_discard)
        raise


def _discard(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and task.exception() is None and task.result() is not None:
        task.result().__exit__(None, None, None)


class _Lock:
    """What tasks acquire and release: a lock, or permits of a semaphore."""

    path: str | bytes

    def __init__(self, path: _Path) -> None:
        self.path = os.fspath(path)
        # More than one if several tasks read under this object.
        self._guards: list[Any] = []

    def _opening(self, space: Any, name: str) -> Awaitable[Any]:
        opening: Awaitable[Any] = space.open(name)
        return opening

    @property
    def acquired(self) -> bool:
        """Whether it is held by this object, for any task."""
        return bool(self._guards)

    def exists(self) -> bool:
        """Whether the lock file exists."""
        return os.path.exists(self.path)

    async def _acquire(self, what: Any, blocking: bool, timeout: float | None) -> bool:
        """Acquires a lock in a mode, or so many permits."""
        limit = _nanoseconds(timeout)
        path = os.fsdecode(self.path)
        space, name = lockspace_of(path)
        make_directory(path)
        try:
            guard = await _whole(_guard(self._opening(space, name), what, blocking, limit))
        except Err as error:
            # Without a timeout of the caller it is the longest wait that the host allows.
            if kind_of(error) == "Timeout" and timeout is not None:
                return False
            raise os_error(error, self.path) from None
        if guard is None:
            return False
        self._guards.append(guard)
        return True

    async def check(self) -> None:
        """Raises `OSError` if the lock was lost meanwhile, as one on a server can be, or if its file
        was replaced (`errno.ESTALE`). A release does not tell."""
        try:
            await self._held().check()
        except Err as error:
            raise os_error(error, self.path) from None

    async def fencing_token(self) -> int:
        """A number that is greater than that of any earlier exclusive holder."""
        try:
            token: int = await self._held().fencing_token()
        except Err as error:
            raise os_error(error, self.path) from None
        return token

    def _held(self) -> Any:
        if not self.acquired:
            raise RuntimeError("it is not held by this object")
        return self._guards[-1]

    def _release(self) -> None:
        self._held()
        self._guards.pop().__exit__(None, None, None)


class InterProcessLock(_Lock):
    """A lock on a file, which one task of one program holds at a time."""

    async def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Takes the lock; false if that was not possible at once, or within `timeout` seconds."""
        return await self._acquire(types.Mode.EXCLUSIVE, blocking, timeout)

    def release(self) -> None:
        """Releases the lock."""
        self._release()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class InterProcessReaderWriterLock(_Lock):
    """A lock on a file, which many readers or one writer hold at a time."""

    async def acquire_read_lock(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Takes the lock shared; false if that was not possible at once, or within `timeout`."""
        return await self._acquire(types.Mode.SHARED, blocking, timeout)

    async def acquire_write_lock(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Takes the lock exclusively; false as `acquire_read_lock` has it."""
        return await self._acquire(types.Mode.EXCLUSIVE, blocking, timeout)

    def release_read_lock(self) -> None:
        """Releases the lock."""
        self._release()

    def release_write_lock(self) -> None:
        """Releases the lock."""
        self._release()

    @contextlib.asynccontextmanager
    async def read_lock(self) -> AsyncIterator[Self]:
        """Holds the lock shared for a block."""
        await self.acquire_read_lock()
        try:
            yield self
        finally:
            self.release_read_lock()

    @contextlib.asynccontextmanager
    async def write_lock(self) -> AsyncIterator[Self]:
        """Holds the lock exclusively for a block."""
        await self.acquire_write_lock()
        try:
            yield self
        finally:
            self.release_write_lock()


class InterProcessSemaphore(_Lock):
    """A file with so many permits, from 1 to 64: at most so many tasks of all programs hold one at a
    time.

    Open it with the same number of permits everywhere, and use its file for nothing else. A task that
    needs the number of its permit has an object of its own; tasks that do not may share one.
    """

    permits: int

    def __init__(self, path: _Path, permits: int) -> None:
        super().__init__(path)
        self.permits = permits

    def _opening(self, space: Any, name: str) -> Awaitable[Any]:
        opening: Awaitable[Any] = semaphores.Semaphore.open(space, name, self.permits)
        return opening

    async def acquire(
        self, blocking: bool = True, timeout: float | None = None, count: int = 1
    ) -> bool:
        """Takes `count` permits, all at once; false if that was not possible at once, or within
        `timeout` seconds."""
        return await self._acquire(count, blocking, timeout)

    def release(self) -> None:
        """Releases what was acquired last."""
        self._release()

    @property
    def numbers(self) -> list[int]:
        """The numbers of the permits that were acquired last, from zero, in ascending order. No two
        holders have the same number at the same time."""
        numbers: list[int] = self._held().numbers()
        return numbers

    @property
    def number(self) -> int:
        """The least of `numbers`."""
        return self.numbers[0]

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _locked(
    hold: Callable[[], contextlib.AbstractAsyncContextManager[Any]],
) -> Callable[[Callable[_P, Coroutine[Any, Any, _R]]], Callable[_P, Coroutine[Any, Any, _R]]]:
    def decorate(
        function: Callable[_P, Coroutine[Any, Any, _R]],
    ) -> Callable[_P, Coroutine[Any, Any, _R]]:
        @functools.wraps(function)
        async def locked(*arguments: _P.args, **named: _P.kwargs) -> _R:
            async with hold():
                return await function(*arguments, **named)

        return locked

    return decorate


def interprocess_locked(
    path: _Path,
) -> Callable[[Callable[_P, Coroutine[Any, Any, _R]]], Callable[_P, Coroutine[Any, Any, _R]]]:
    """Runs a coroutine function under an `InterProcessLock`, a new one for each call."""
    return _locked(lambda: InterProcessLock(path))


def interprocess_read_locked(
    path: _Path,
) -> Callable[[Callable[_P, Coroutine[Any, Any, _R]]], Callable[_P, Coroutine[Any, Any, _R]]]:
    """Runs a coroutine function under a shared lock."""
    return _locked(lambda: InterProcessReaderWriterLock(path).read_lock())


def interprocess_write_locked(
    path: _Path,
) -> Callable[[Callable[_P, Coroutine[Any, Any, _R]]], Callable[_P, Coroutine[Any, Any, _R]]]:
    """Runs a coroutine function under the exclusive side of a reader-writer lock."""
    return _locked(lambda: InterProcessReaderWriterLock(path).write_lock())


def interprocess_limited(
    path: _Path, permits: int
) -> Callable[[Callable[_P, Coroutine[Any, Any, _R]]], Callable[_P, Coroutine[Any, Any, _R]]]:
    """Runs a coroutine function with a permit of an `InterProcessSemaphore`: at most `permits` run at
    a time, in all programs."""
    return _locked(lambda: InterProcessSemaphore(path, permits))
