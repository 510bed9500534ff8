"""`fcntl` for Python in WebAssembly, whose own is missing: locks, and a few flags.

The functions take the locks of the machine, by way of the host. Each excludes native programs
that make the same call: `fcntl` and `lockf` on one side, `flock` on the other.

Errors are `OSError` as elsewhere. `EDEADLK` says that the program itself holds the lock and would
wait for ever, `ENOTSUP` that the host has granted no locks for the path, `ESTALE` that the path
leads to another file than the one that is open. For that, `flock` with `LOCK_NB` has `EAGAIN`.
"""

import errno
import operator
import os
import struct

from clasp import _descriptors
from clasp._descriptors import EXCLUSIVE, SHARED

LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8
F_GETFD, F_SETFD, F_GETFL, F_SETFL = 1, 2, 3, 4
F_GETLK, F_SETLK, F_SETLKW = 12, 13, 14
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
F_RDLCK, F_WRLCK, F_UNLCK = 0, 1, 2
FD_CLOEXEC = 1


class _Function:
    """A function that is no method of a class which has it as an attribute, as those in C are."""

    def __init__(self, function):
        self._function = function
        self.__name__ = self.__qualname__ = function.__name__
        self.__doc__ = function.__doc__
        self.__module__ = __name__

    def __call__(self, *arguments):
        return self._function(*arguments)

    def __repr__(self):
        return f"<function {self.__name__}>"


# `struct flock`: l_type, l_whence, l_start, l_len, l_pid. Programs leave out what is at the end
# of it, and write offsets of 32 bits as `l`.
_FLOCK = struct.Struct("=hh4xqqi4x")
_WITHOUT_END = struct.Struct("=hh4xqqi")
_OF_32_BITS = struct.Struct("=hhllhh")


@_Function
def flock(fd, operation, /):
    """Locks a file, or releases it with `LOCK_UN`."""
    fd, wait = _fileno(fd), not operation & LOCK_NB
    _descriptors.set_flock(fd, _mode(operation & ~LOCK_NB), wait)


@_Function
def lockf(fd, cmd, len=0, start=0, whence=0, /):
    """Locks bytes of a file, or releases them with `LOCK_UN`."""
    fd, wait = _fileno(fd), not cmd & LOCK_NB
    first, count = _range(fd, whence, start, len)
    _descriptors.set_range(fd, True, _mode(cmd & ~LOCK_NB), first, count, wait)


@_Function
def fcntl(fd, cmd, arg=0, /):
    """Carries out a command for locks, whose argument is a `struct flock` as bytes; or one for
    flags. Of these, `F_SETFL` can take `O_APPEND` from a file that `open` has returned."""
    fd = _fileno(fd)
    if cmd in (F_GETFD, F_SETFD):
        os.fstat(fd)
        return FD_CLOEXEC if cmd == F_GETFD else 0
    if cmd == F_GETFL:
        return _descriptors.flags(fd)
    if cmd == F_SETFL:
        return _descriptors.set_flags(fd, arg)
    if cmd not in (F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    try:
        layout = {_WITHOUT_END.size: _WITHOUT_END, _OF_32_BITS.size: _OF_32_BITS}.get(len(arg), _FLOCK)
        kind, whence, start, length, pid, *rest = layout.unpack(arg)
        mode = {F_RDLCK: SHARED, F_WRLCK: EXCLUSIVE, F_UNLCK: None}[kind]
    except (struct.error, TypeError, KeyError):
        raise OSError(errno.EINVAL, "not a struct flock") from None
    of_process = cmd in (F_GETLK, F_SETLK, F_SETLKW)
    first, count = _range(fd, whence, start, length)
    if cmd in (F_GETLK, F_OFD_GETLK):
        if mode is None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        found = _descriptors.test_range(fd, of_process, mode, first, count)
        if found is None:
            return layout.pack(F_UNLCK, whence, start, length, pid, *rest)
        kind = F_RDLCK if found.mode == SHARED else F_WRLCK
        try:
            return layout.pack(kind, os.SEEK_SET, found.start, found.len, -1, *rest)
        except struct.error:
            raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW)) from None
    wait = cmd in (F_SETLKW, F_OFD_SETLKW)
    _descriptors.set_range(fd, of_process, mode, first, count, wait)
    return bytes(arg)


@_Function
def ioctl(fd, request, arg=0, mutate_flag=True, /):
    """WASI has none."""
    raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))


def _fileno(file):
    fd = file if isinstance(file, int) else getattr(file, "fileno", lambda: None)()
    if not isinstance(fd, int):
        raise TypeError("argument must be an int, or have a fileno() method.")
    if fd < 0:
        raise ValueError("file descriptor cannot be a negative integer")
    return fd


def _mode(operation):
    modes = {LOCK_SH: SHARED, LOCK_EX: EXCLUSIVE, LOCK_UN: None}
    if operation not in modes:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return modes[operation]


def _range(fd, whence, start, length):
    """The first byte and the number of bytes, zero for all that follow."""
    start, length, whence = operator.index(start), operator.index(length), operator.index(whence)
    if whence == os.SEEK_CUR:
        start += os.lseek(fd, 0, os.SEEK_CUR)
    elif whence == os.SEEK_END:
        start += os.fstat(fd).st_size
    elif whence != os.SEEK_SET:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if length < 0:
        start, length = start + length, -length
    if start < 0:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if start + max(length, 1) > 2**63:
        raise OSError(errno.EOVERFLOW, os.strerror(errno.EOVERFLOW))
    return start, length
