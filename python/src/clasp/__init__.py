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

from componentize_py_types import Err

from ._host import kind_of, lockspace_of, os_error
from ._wit import types

__all__ = [
    "InterProcessLock",
    "InterProcessReaderWriterLock",
    "interprocess_locked",
    "interprocess_read_locked",
    "interprocess_write_locked",
]


class _Lock:
    def __init__(self, path, sleep_func=None, logger=None):
        self.path = os.fspath(path)
        self._lock = None
        self._guard = None

    @property
    def acquired(self):
        """Whether the lock is held by this object."""
        return self._guard is not None

    def exists(self):
        """Whether the lock file exists."""
        return os.path.exists(self.path)

    def _open(self):
        if self._lock is None:
            directory = os.path.dirname(os.fsdecode(self.path))
            if directory and not os.path.exists(directory):
                os.makedirs(directory)
            space, name = lockspace_of(os.fsdecode(self.path))
            try:
                self._lock = space.open(name)
            except Err as error:
                raise os_error(error, self.path) from None
        return self._lock

    def _acquire(self, mode, blocking, timeout):
        if self.acquired:
            raise RuntimeError("the lock is held by this object already")
        if timeout is not None and not timeout >= 0:
            raise ValueError("the timeout must not be negative")
        # What 64 bits of nanoseconds cannot hold is 584 years away.
        longest = 2**64 - 1
        limit = longest if timeout is None else min(timeout * 1_000_000_000, longest)
        lock = self._open()
        try:
            if blocking:
                self._guard = lock.acquire(mode, None if limit == longest else int(limit))
            else:
                self._guard = lock.try_acquire(mode)
        except Err as error:
            # Without a timeout of the caller it is the longest wait that the host allows.
            if kind_of(error) == "Timeout" and timeout is not None:
                return False
            raise os_error(error, self.path) from None
        finally:
            if not self.acquired:
                self._close()
        return self.acquired

    def _close(self):
        if self._lock is not None:
            lock, self._lock = self._lock, None
            lock.__exit__(None, None, None)

    def _release(self):
        if not self.acquired:
            raise RuntimeError("the lock is not held by this object")
        guard, self._guard = self._guard, None
        guard.__exit__(None, None, None)
        self._close()


class InterProcessLock(_Lock):
    """A lock on a file, which one program holds at a time."""

    def acquire(self, blocking=True, delay=None, max_delay=None, timeout=None):
        """Takes the lock; false if that was not possible at once, or within `timeout` seconds."""
        return self._acquire(types.Mode.EXCLUSIVE, blocking, timeout)

    def release(self):
        """Releases the lock."""
        self._release()

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, *_):
        self.release()


class InterProcessReaderWriterLock(_Lock):
    """A lock on a file, which many readers or one writer hold at a time."""

    def acquire_read_lock(self, blocking=True, delay=None, max_delay=None, timeout=None):
        """Takes the lock shared; false if that was not possible at once, or within `timeout`."""
        return self._acquire(types.Mode.SHARED, blocking, timeout)

    def acquire_write_lock(self, blocking=True, delay=None, max_delay=None, timeout=None):
        """Takes the lock exclusively; false if that was not possible."""
        return self._acquire(types.Mode.EXCLUSIVE, blocking, timeout)

    def release_read_lock(self):
        """Releases the lock."""
        self._release()

    def release_write_lock(self):
        """Releases the lock."""
        self._release()

    @contextlib.contextmanager
    def read_lock(self, delay=None, max_delay=None):
        """Holds the lock shared."""
        self.acquire_read_lock()
        try:
            yield
        finally:
            self.release_read_lock()

    @contextlib.contextmanager
    def write_lock(self, delay=None, max_delay=None):
        """Holds the lock exclusively."""
        self.acquire_write_lock()
        try:
            yield
        finally:
            self.release_write_lock()


def _decorator(hold):
    def decorator(path):
        def decorate(function):
            @functools.wraps(function)
            def wrapper(*arguments, **named):
                with hold(path):
                    return function(*arguments, **named)

            return wrapper

        return decorate

    return decorator


interprocess_locked = _decorator(InterProcessLock)
interprocess_read_locked = _decorator(lambda path: InterProcessReaderWriterLock(path).read_lock())
interprocess_write_locked = _decorator(lambda path: InterProcessReaderWriterLock(path).write_lock())
