"""The locks of this program, by its descriptors.

The host opens locks by path, and a guest cannot ask for the path of a descriptor. So this module
notes each file that the program opens, and releases the locks of a descriptor that is closed. For
that it takes the place of `open`, `os.open`, `os.close`, `os.rename` and `os.replace`.
"""

import builtins
import errno
import io
import os
import weakref

from ._host import call, lockspace_of
from ._wit import flock as _flock
from ._wit import ranges, types

RangeOwner = ranges.RangeOwner

SHARED, EXCLUSIVE = types.Mode.SHARED, types.Mode.EXCLUSIVE

_os_open, _os_close, _os_rename, _os_replace = os.open, os.close, os.rename, os.replace
_os_stat, _os_fstat = os.stat, os.fstat
_io_open = io.open

_ACCESS = os.O_RDONLY | os.O_WRONLY | os.O_RDWR

_opened = {}
_of_process = weakref.WeakValueDictionary()


class _Descriptor:
    """A file that is open, and the locks that were taken by this descriptor."""

    def __init__(self, path, flags, raw):
        self.path = path
        access = flags & _ACCESS
        self.flags = flags & (_ACCESS | os.O_APPEND)
        self.readable = access != os.O_WRONLY
        self.writable = access != os.O_RDONLY
        # The `FileIO` whose descriptor it is.
        self.raw = raw
        self.file = None
        self.process = None
        self.description = None
        self.lock = None
        # The path by which the lock was opened.
        self.lock_path = None
        self.guard = None

    def release(self):
        """Releases what goes with the descriptor."""
        if self.process is not None:
            # POSIX: closing a descriptor releases all locks of the process on the file.
            self.process.owner.unlock(0, 0)
        if self.description is not None:
            self.description.__exit__(None, None, None)
        if self.guard is not None:
            self.guard[0].__exit__(None, None, None)
        self.drop_lock()
        self.file = self.process = self.description = self.guard = None

    def drop_lock(self):
        """Drops the lock of `flock`, which nothing holds."""
        if self.lock is not None:
            self.lock.__exit__(None, None, None)
        self.lock = self.lock_path = None

    def open(self, fd, how):
        """Opens a lock by the path, if the path leads to the file before and after."""
        self._check(fd)
        space, name = lockspace_of(self.path)
        lock = call(how, space, name, path=self.path)
        try:
            self._check(fd)
        except OSError:
            lock.__exit__(None, None, None)
            raise
        return lock

    def is_replaced(self, fd):
        """Whether the path leads to another file by now, or to none."""
        return _of_path(self.path) != _identity(_os_fstat(fd))

    def _check(self, fd):
        if self.is_replaced(fd):
            raise OSError(errno.ESTALE, "the path leads to another file by now", self.path)


class _ProcessLocks:
    """The locks of the process on one file; a weak dictionary needs a class."""

    def __init__(self, owner):
        self.owner = owner

    def __del__(self):
        self.owner.__exit__(None, None, None)


def _of_path(path):
    """What a path leads to; None if to nothing."""
    try:
        if not os.path.islink(path):
            return _identity(_os_stat(path))
        # `stat` tells the link from its target elsewhere, and in WASI it does not.
        fd = _os_open(path, os.O_RDONLY)
        try:
            return _identity(_os_fstat(fd))
        finally:
            _os_close(fd)
    except FileNotFoundError:
        return None


def _identity(stat):
    return stat.st_dev, stat.st_ino


def _descriptor(fd):
    file = _identity(_os_fstat(fd))
    descriptor = _opened.get(fd)
    if descriptor is None:
        raise OSError(errno.ENOTSUP, "not a file that this program has opened by a path")
    if descriptor.file not in (None, file):
        # It was closed by something that this module does not see.
        descriptor.release()
    descriptor.file = file
    return descriptor


def _owner(fd, descriptor, of_process):
    if not of_process:
        if descriptor.description is None:
            descriptor.description = descriptor.open(fd, RangeOwner.open)
        return descriptor.description
    if descriptor.process is None:
        locks = _of_process.get(descriptor.file)
        if locks is None:
            locks = _ProcessLocks(descriptor.open(fd, RangeOwner.open))
            _of_process[descriptor.file] = locks
        descriptor.process = locks
    return descriptor.process.owner


def set_range(fd, of_process, mode, start, length, wait):
    """Locks bytes; releases them if the mode is None."""
    descriptor = _descriptor(fd)
    if mode is SHARED and not descriptor.readable or mode is EXCLUSIVE and not descriptor.writable:
        raise OSError(errno.EBADF, "the file is not open for this kind of lock", descriptor.path)
    if mode is None:
        held = descriptor.process if of_process else descriptor.description
        if held is None and not (of_process and descriptor.file in _of_process):
            return
        owner = _owner(fd, descriptor, of_process)
        call(owner.unlock, start, length, path=descriptor.path)
    elif wait:
        owner = _owner(fd, descriptor, of_process)
        call(owner.set, mode, start, length, None, path=descriptor.path)
    else:
        owner = _owner(fd, descriptor, of_process)
        if not call(owner.try_set, mode, start, length, path=descriptor.path):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_range(fd, of_process, mode, start, length):
    """A lock in the way of a request, or None."""
    descriptor = _descriptor(fd)
    owner = _owner(fd, descriptor, of_process)
    return call(owner.test, mode, start, length, path=descriptor.path)


def set_flock(fd, mode, wait):
    """Locks the file as `flock` does; releases it if the mode is None."""
    descriptor = _descriptor(fd)
    held = descriptor.guard
    if mode is None or held is not None and held[1] is not mode:
        # A conversion releases the one lock to take the other, as that of the kernel does.
        if held is not None:
            held[0].__exit__(None, None, None)
            descriptor.guard = None
        if mode is None:
            return
    elif held is not None:
        try:
            call(held[0].check, path=descriptor.path)
        except OSError as error:
            # That the path leads elsewhere is no loss: the file that is open is locked.
            if error.errno != errno.ESTALE:
                raise
        return
    try:
        descriptor.guard = _take_flock(fd, descriptor, mode, wait), mode
    except OSError as error:
        if error.errno != errno.EAGAIN:
            # It may have followed the name to another file.
            descriptor.drop_lock()
        if error.errno == errno.ESTALE and not wait and descriptor.is_replaced(fd):
            # Another may have locked the file that is open. Programs that remove their lock file,
            # as filelock does, open it anew and try again.
            raise BlockingIOError(errno.EAGAIN, str(error)) from error
        raise


def _take_flock(fd, descriptor, mode, wait):
    if descriptor.lock_path != descriptor.path:
        descriptor.drop_lock()
    if descriptor.lock is None:
        descriptor.lock = descriptor.open(fd, _flock.open)
        descriptor.lock_path = descriptor.path
    # A lock of the interface follows its name to another file; this one stays with its file.
    descriptor._check(fd)
    if wait:
        guard = call(descriptor.lock.acquire, mode, None, path=descriptor.path)
    else:
        guard = call(descriptor.lock.try_acquire, mode, path=descriptor.path)
        if guard is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    try:
        call(guard.check, path=descriptor.path)
        descriptor._check(fd)
    except OSError:
        guard.__exit__(None, None, None)
        raise
    return guard


def flags(fd):
    """How the file is open, as `F_GETFL` tells."""
    return _descriptor(fd).flags


def set_flags(fd, wanted):
    """Sets the flags of a file, as `F_SETFL` does. WASI can do that, Python cannot: a file that
    is no longer to be appended to is opened again by its path."""
    descriptor = _descriptor(fd)
    change = (descriptor.flags ^ wanted) & os.O_APPEND
    if not change:
        return 0
    raw = descriptor.raw and descriptor.raw()
    if raw is None or wanted & os.O_APPEND or not raw.closefd:
        raise OSError(errno.ENOTSUP, "the flag cannot be changed", descriptor.path)
    descriptor._check(fd)
    raw.open_again(descriptor.path)
    descriptor.flags &= ~os.O_APPEND
    return 0


def _note(fd, path, directory, flags, raw=None):
    path = os.fsdecode(path)
    if not path.startswith("/"):
        base = os.getcwd() if directory is None else getattr(_opened.get(directory), "path", None)
        if base is None:
            return
        path = os.path.join(base, path)
    _closed(fd)
    _opened[fd] = _Descriptor(os.path.normpath(path), flags, raw)


def _closed(fd):
    descriptor = _opened.pop(fd, None)
    if descriptor is not None:
        descriptor.release()


def _open_descriptor(path, flags, mode=0o777, *, dir_fd=None):
    fd = _os_open(path, flags, mode) if dir_fd is None else _os_open(path, flags, mode, dir_fd=dir_fd)
    _note(fd, path, dir_fd, flags)
    return fd


def _close_descriptor(fd):
    _os_close(fd)
    _closed(fd)


class _FileIO(io.FileIO):
    """A file that tells when it is opened and when it is closed."""

    def __init__(self, file, mode="r", closefd=True, opener=None):
        if not isinstance(file, int) and not hasattr(file, "__index__"):
            file = os.fspath(file)
        super().__init__(file, mode, closefd, opener)
        if isinstance(file, (str, bytes)) and opener is None:
            both = self.readable() and self.writable()
            flags = os.O_RDWR if both else os.O_RDONLY if self.readable() else os.O_WRONLY
            append = os.O_APPEND if "a" in mode else 0
            _note(self.fileno(), file, None, flags | append, weakref.ref(self))

    def open_again(self, path):
        """Opens the file again, to be written at any place. Its number stays: it is the lowest
        that is free once the old one is closed."""
        fd, at = self.fileno(), self.tell()
        super().__init__(path, "r+")
        if self.fileno() != fd:
            raise OSError(errno.EBADF, "the descriptor has another number now", path)
        self.seek(at)

    def close(self):
        fd = None if self.closed or not self.closefd else self.fileno()
        super().close()
        if fd is not None:
            _closed(fd)


def _open_file(
    file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None
):
    kinds = set(mode) if isinstance(mode, str) else set()
    binary = "b" in kinds
    plain = len(kinds & set("rwax")) == 1 and kinds <= set("rwaxbt+") and len(kinds) == len(mode)
    text_only = encoding is not None or errors is not None or newline is not None
    if (
        not plain
        or not isinstance(buffering, int)
        or binary and ("t" in kinds or text_only)
        or buffering == 0 and not binary
    ):
        # Has the message of the original.
        return _io_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    raw = _FileIO(file, "".join(kinds - set("bt")), closefd, opener)
    try:
        if buffering == 0:
            return raw
        by_line = not binary and (buffering == 1 or buffering < 0 and raw.isatty())
        size = buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE
        if "+" in kinds:
            buffered = io.BufferedRandom(raw, size)
        elif "r" in kinds:
            buffered = io.BufferedReader(raw, size)
        else:
            buffered = io.BufferedWriter(raw, size)
        if binary:
            return buffered
        text = io.TextIOWrapper(buffered, io.text_encoding(encoding), errors, newline, by_line)
        text.mode = mode
        return text
    except BaseException:
        raw.close()
        raise


def _renamed(rename):
    def renamed(src, dst, *, src_dir_fd=None, dst_dir_fd=None):
        if src_dir_fd is not None or dst_dir_fd is not None:
            rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
            return
        old, new = (os.path.normpath(os.path.abspath(os.fsdecode(path))) for path in (src, dst))
        rename(src, dst)
        for descriptor in _opened.values():
            if descriptor.path == old or descriptor.path.startswith(old + "/"):
                descriptor.path = new + descriptor.path[len(old) :]

    return renamed


os.open, os.close = _open_descriptor, _close_descriptor
os.rename, os.replace = _renamed(_os_rename), _renamed(_os_replace)
builtins.open = io.open = _open_file
