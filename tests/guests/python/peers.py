"""Takes and releases locks with libraries for Python, as it is told on standard input: a library
and an action for each line, one line as the answer. The tests run it as a guest and natively.
"""

import errno
import fcntl
import gc
import os
import sys
import tempfile

# portalocker looks for a directory when it is imported, which happens when a guest is built.
tempfile.tempdir = "/"

import fasteners
import filelock
import portalocker

DIRECTORY = "data"


def path(name):
    return os.path.join(DIRECTORY, name)


class Fasteners:
    def __init__(self, library):
        self.library = library
        self.lock = library.InterProcessLock(path("fcntl"))

    def do(self, action):
        if action == "try":
            return self.lock.acquire(blocking=False)
        if action == "limit":
            return self.lock.acquire(timeout=0.05)
        if action == "acquire":
            return self.lock.acquire()
        if action == "with":
            with self.library.InterProcessLock(path("fcntl")):
                return True
        if action == "decorated":
            return self.library.interprocess_locked(path("fcntl"))(lambda: True)()
        if action == "forget":
            # In a cycle, so that it ends when garbage is collected, its parts in any order.
            self.lock.itself = self.lock
            self.lock = self.library.InterProcessLock(path("fcntl"))
            return gc.collect() > 0
        if action == "replaced":
            # Not of fasteners: the holder learns that its file was replaced.
            token = self.lock.fencing_token()
            self.lock.check()
            os.remove(self.lock.path)
            told = [self.is_stale(self.lock.check), self.is_stale(self.lock.release)]
            with self.library.InterProcessLock(self.lock.path) as lock:
                told.append(lock.fencing_token() > token and not self.lock.acquired)
                os.remove(self.lock.path)
            return all(told)
        return self.lock.release() is None

    @staticmethod
    def is_stale(call):
        try:
            call()
        except OSError as error:
            return error.errno == errno.ESTALE
        return False


class ReaderWriter:
    def __init__(self, library):
        self.library = library
        self.lock = library.InterProcessReaderWriterLock(path("fcntl"))

    def do(self, action):
        verb, _, mode = action.partition("-")
        if verb == "decorated":
            decorator = getattr(self.library, f"interprocess_{mode}_locked")
            return decorator(path("fcntl"))(lambda: True)()
        if verb == "release":
            return getattr(self.lock, f"release_{mode}_lock")() is None
        acquire = getattr(self.lock, f"acquire_{mode}_lock")
        if verb == "limit":
            return acquire(timeout=0.05)
        return acquire(blocking=verb == "acquire")


class Semaphore:
    """Not of fasteners: two permits, of which an object takes one or both."""

    def __init__(self, library):
        self.library = library
        self.held = library.InterProcessSemaphore(path("permits"), 2)

    def do(self, action):
        if action == "try":
            return self.held.acquire(blocking=False)
        if action == "limit":
            return self.held.acquire(timeout=0.05)
        if action == "acquire":
            return self.held.acquire()
        if action == "both":
            return self.held.acquire(count=2) and self.held.numbers == [0, 1]
        if action == "first":
            return self.held.number == 0
        if action == "decorated":
            limited = self.library.interprocess_limited(path("permits"), 2)
            return limited(lambda: True)()
        if action == "with":
            with self.library.InterProcessSemaphore(path("permits"), 2) as permit:
                return permit.acquired
        self.held.check()
        return self.held.release() is None


class FileLock:
    def __init__(self):
        self.lock = filelock.UnixFileLock(path("flock"))

    def do(self, action):
        if action == "release":
            return self.lock.release() is None
        try:
            self.lock.acquire(timeout={"try": 0, "limit": 0.05, "acquire": -1}[action])
            return True
        except filelock.Timeout:
            return False


class Portalocker:
    def do(self, action):
        if action == "write":
            # It opens the file for appending, and clears that flag once the lock is held.
            with portalocker.Lock(path("written"), mode="w") as file:
                for text in ("x", "y"):
                    file.seek(0)
                    file.write(text)
            with open(path("written")) as file:
                return file.read() == "y"
        if action == "release":
            return self.lock.release() is None
        timeout = {"try": 0, "limit": 0.05, "acquire": 60}[action]
        self.lock = portalocker.Lock(path("flock"), timeout=timeout)
        try:
            self.lock.acquire()
            return True
        except portalocker.exceptions.LockException:
            return False


class Files:
    """The functions themselves."""

    def do(self, action):
        verb, _, name = action.partition("-")
        return getattr(self, verb)(path(name))

    def busy(self, name):
        try:
            with open(name, "r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True

    def rename(self, name):
        """A file keeps what is locked by its descriptor, and is found by its new name."""
        self.renamed = open(name, "w")
        fcntl.flock(self.renamed, fcntl.LOCK_EX)
        fcntl.flock(self.renamed, fcntl.LOCK_UN)
        os.rename(name, name + "2")
        fcntl.flock(self.renamed, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(self.renamed, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return not os.path.exists(name)

    def link(self, name):
        open(name, "w").close()
        os.symlink(os.path.basename(name), name + "-link")
        self.linked = open(name + "-link", "r+")
        fcntl.lockf(self.linked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True

    def close(self, name):
        self.linked.close()
        self.renamed.close()
        return True


def main(of_this_project=None):
    made = {}
    makers = {
        "fasteners": lambda: Fasteners(fasteners),
        "fasteners-rw": lambda: ReaderWriter(fasteners),
        "clasp": lambda: Fasteners(of_this_project),
        "clasp-rw": lambda: ReaderWriter(of_this_project),
        "clasp-semaphore": lambda: Semaphore(of_this_project),
        "files": Files,
        "filelock": FileLock,
        "portalocker": Portalocker,
    }
    for line in sys.stdin:
        library, action = line.split()
        if library not in made:
            made[library] = makers[library]()
        try:
            answer = "yes" if made[library].do(action) else "no"
        except Exception as error:
            answer = repr(error)
        print(answer, flush=True)


if __name__ == "__main__":
    DIRECTORY = sys.argv[1]
    main()
