"""What a Python lock library does, found out by running it on Linux.

`comparison.py fasteners|filelock|portalocker` prints JSON {row: value}. It needs 10 to 15 s;
nothing depends on timing tighter than 0.3 s, and no wait is unbounded.
"""
import fcntl
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time

LIBRARIES = ("fasteners", "filelock", "portalocker")
WAITS = 0.6  # After this time, an actor that has not answered is waiting.

# What an actor (a process of its own) knows of a library: `exclusive` and `shared` make a
# handle; `attempt` tries once; `take` waits, for ever or for `timeout` seconds; `drop`.
ADAPTERS = {
    "fasteners": """
import fasteners
def exclusive(path, **_):
    return fasteners.InterProcessLock(path)
def writer(path):
    return fasteners.InterProcessReaderWriterLock(path)
def reader(path):
    return fasteners.InterProcessReaderWriterLock(path)
def pick(h, mode):
    if isinstance(h, fasteners.InterProcessLock): return h.acquire
    return h.acquire_read_lock if mode == 's' else h.acquire_write_lock
def attempt(h, mode='x'):
    return pick(h, mode)(blocking=False)
def take(h, mode='x', timeout=None, interval=None):
    more = {} if interval is None else {'delay': interval, 'max_delay': interval}
    return pick(h, mode)(timeout=timeout, **more)
def drop(h, mode='x'):
    if isinstance(h, fasteners.InterProcessLock): h.release()
    elif mode == 's': h.release_read_lock()
    else: h.release_write_lock()
""",
    "filelock": """
import filelock
def exclusive(path, **_):
    return filelock.FileLock(path)
def writer(path):
    return filelock.ReadWriteLock(path, is_singleton=False)
reader = writer
def pick(h, mode):
    if isinstance(h, filelock.BaseFileLock): return h.acquire
    return h.acquire_read if mode == 's' else h.acquire_write
def attempt(h, mode='x'):
    try: pick(h, mode)(blocking=False)
    except filelock.Timeout: return False
    return True
def take(h, mode='x', timeout=None, interval=None):
    more = {} if interval is None else {'poll_interval': interval}
    try: pick(h, mode)(timeout=timeout, **more)
    except filelock.Timeout: return False
    return True
def drop(h, mode='x'):
    h.release()
""",
    "portalocker": """
import portalocker
from portalocker import LockFlags
def exclusive(path, blocking=False):
    return portalocker.Lock(path, flags=LockFlags.EXCLUSIVE | (LockFlags(0) if blocking else LockFlags.NON_BLOCKING))
def writer(path):
    return exclusive(path)
def reader(path):
    return portalocker.Lock(path, flags=LockFlags.SHARED | LockFlags.NON_BLOCKING)
def attempt(h, mode='x'):
    try: h.acquire(timeout=0, fail_when_locked=True)
    except portalocker.AlreadyLocked: return False
    return True
def take(h, mode='x', timeout=None, interval=None):
    # The default timeout is 5 s; the explicit one below stands for "for ever".
    try: h.acquire(timeout=timeout, check_interval=interval)
    except portalocker.AlreadyLocked: return False
    return True
def drop(h, mode='x'):
    h.release()
""",
}


def act(library):
    """The loop of an actor: executes what it is told and says what came of it."""
    names = {"os": os, "time": time, "threading": threading, "fcntl": fcntl}
    exec(ADAPTERS[library], names)

    def in_thread(f, *args):
        out = []

        def run():
            try:
                out.append(f(*args))
            except BaseException as error:
                out.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(5)
        return out[0] if out else "hangs"

    names["in_thread"] = in_thread
    print(json.dumps({"ok": "ready"}), flush=True)
    for line in sys.stdin:
        start = time.monotonic()
        try:
            names["_"] = None
            exec(json.loads(line), names)
            answer = {"ok": names["_"]}
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answer["s"] = round(time.monotonic() - start, 3)
        print(json.dumps(answer, default=str), flush=True)


class Actor:
    def __init__(self, library):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, "--actor", library],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers, self.ready = queue.Queue(), threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if self.ready.is_set():
                self.answers.put(json.loads(line))
            self.ready.set()

    @property
    def pid(self):
        return self.process.pid

    def tell(self, code):
        if not self.ready.wait(10):
            raise TimeoutError("an actor does not start")
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()

    def answer(self, within=10.0):
        """The next answer; None if there is none yet."""
        try:
            return self.answers.get(timeout=within)
        except queue.Empty:
            return None

    def ask(self, code, within=10.0):
        self.tell(code)
        answer = self.answer(within)
        if answer is None:
            raise TimeoutError(code)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]

    def switches(self):
        """How often the process has gone to sleep."""
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith("voluntary_ctxt_switches"):
                    return int(line.split()[1])

    def kill(self):
        self.process.kill()
        self.process.wait()


def kernel_locks(path):
    """The kinds of locks on the file in /proc/locks, and the processes that block in the kernel."""
    wanted, kinds, blocked = os.stat(path).st_ino, set(), set()
    with open("/proc/locks") as locks:
        for line in locks:
            fields = line.split()
            waits = fields[1] == "->"
            kind, _, mode, pid, file = fields[1 + waits:6 + waits]
            if int(file.split(":")[2]) == wanted:
                kinds.add(kind)
                if waits:
                    blocked.add(int(pid))
    return kinds, blocked


class Probe:
    def __init__(self, library, directory):
        self.library, self.directory = library, directory
        self.rows, self.actors, self.files = {}, [], 0

    def actor(self):
        self.actors.append(Actor(self.library))
        return self.actors[-1]

    def path(self):
        self.files += 1
        return os.path.join(self.directory, f"{self.files}.lock")

    def run(self):
        slow = self.start_slow()
        a, b, c = self.actor(), self.actor(), self.actor()
        for row in (self.processes, self.natives, self.shared, self.timeout, self.waiting, self.order,
                    self.starvation, self.handles, self.reentrance, self.fork, self.killed, self.replaced,
                    self.conversion, self.fencing, self.asynchronous, self.decorators, self.without_fcntl):
            try:
                row(a, b, c)
            except (RuntimeError, TimeoutError, AssertionError, OSError) as error:
                self.rows[row.__name__ + " failed"] = repr(error)
            for actor in (a, b, c):
                if actor.process.poll() is None and actor.answers.empty():
                    continue
                actor.kill()
            a, b, c = (x if x.process.poll() is None else self.actor() for x in (a, b, c))
        self.finish_slow(slow)
        for actor in self.actors:
            actor.kill()
        return self.rows

    # Waits that last longer than any default timeout run beside everything else.
    def start_slow(self):
        waiter, holder, path = self.actor(), self.actor(), self.path()
        holder.ask(f"h = exclusive({path!r}); take(h)")
        waiter.tell(f"h = exclusive({path!r}); _ = take(h)")
        itself, own = self.actor(), self.path()
        itself.ask(f"h1 = exclusive({own!r}); take(h1)")
        itself.tell(f"h2 = exclusive({own!r}); _ = take(h2)")
        blocking = None
        if self.library == "portalocker":
            blocking, other = self.actor(), self.path()
            blocking.ask(f"h1 = exclusive({other!r}, blocking=True); take(h1)")
            blocking.tell(f"h2 = exclusive({other!r}, blocking=True); _ = take(h2)")
        return time.monotonic(), waiter, itself, blocking

    def finish_slow(self, slow):
        start, waiter, itself, blocking = slow
        time.sleep(max(0.0, start + 6.5 - time.monotonic()))
        answer = waiter.answer(0.1)
        self.rows["wait without a timeout"] = "for ever" if answer is None else \
            f"gives up after {answer['s']:.0f} s"
        answer = itself.answer(0.1)
        self.rows["waits for itself"] = "hangs" if answer is None else \
            "error: " + answer["error"].split(":")[0] + (" at once" if answer["s"] < 1 else "") if "error" in answer else \
            "granted" if answer["ok"] else f"fails after {answer['s']:.0f} s"
        if blocking is not None:
            self.rows["waits for itself, blocking flags"] = "hangs" if blocking.answer(0.1) is None else "ends"

    def processes(self, a, b, c):
        path = self.path()
        a.ask(f"h = exclusive({path!r}); take(h)")
        taken = b.ask(f"h = exclusive({path!r}); _ = attempt(h)")
        a.ask("drop(h)")
        free = b.ask("_ = attempt(h)")
        b.ask("drop(h)")
        self.rows["between processes"] = "yes" if (taken, free) == (False, True) else "no"

    def natives(self, a, b, c):
        """The locks the kernel lists, and those of which it keeps other programs out."""
        for name, open_, mode in (("exclusive", "exclusive", "x"), ("shared", "reader", "s")):
            path = self.path()
            a.ask(f"h = {open_}({path!r}); take(h, {mode!r})")
            self.rows[f"kernel lock, {name}"] = "+".join(sorted(kernel_locks(path)[0]))
            excluded = []
            for other in ("flock", "lockf"):
                code = ("import fcntl,sys\n"
                        f"try: fcntl.{other}(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
                        "except OSError: sys.exit(1)")
                if subprocess.run([sys.executable, "-c", code, path], timeout=10).returncode:
                    excluded.append({"flock": "flock", "lockf": "fcntl"}[other])
            self.rows[f"excludes, {name}"] = "+".join(excluded) or "none"
            a.ask(f"drop(h, {mode!r})")

    def shared(self, a, b, c):
        path = self.path()
        a.ask(f"h = reader({path!r}); take(h, 's')")
        second = b.ask(f"h = reader({path!r}); _ = attempt(h, 's')")
        write = c.ask(f"h = writer({path!r}); _ = attempt(h, 'x')")
        self.rows["shared locks"] = "yes" if (second, write) == (True, False) else "no"
        a.ask("drop(h, 's')")
        b.ask("drop(h, 's')")
        # Do the lock for readers and writers and the plain lock exclude each other, on one name?
        a.ask(f"h = writer({path!r}); take(h, 'x')")
        self.rows["both classes exclude each other"] = \
            "no" if c.ask(f"h = exclusive({path!r}); _ = attempt(h)") else "yes"
        a.ask("drop(h, 'x')")

    def timeout(self, a, b, c):
        path = self.path()
        a.ask(f"h = exclusive({path!r}); take(h)")
        b.tell(f"h = exclusive({path!r}); _ = take(h, timeout=0.5)")
        answer = b.answer()
        self.rows["timeout"] = "yes" if answer.get("ok") is False and 0.2 < answer["s"] < 3 else f"no: {answer}"
        a.ask("drop(h)")

    def waiting(self, a, b, c):
        """Does a waiter sleep in the kernel until the release, or does it look again and again?"""
        cases = [("", "exclusive", "x", "")]
        cases.append((" (shared)", "reader", "s", ""))
        if self.library == "portalocker":
            cases.append((", blocking flags", "exclusive", "x", ", blocking=True"))
        for name, open_, mode, more in cases:
            path = self.path()
            a.ask(f"h = writer({path!r}); take(h)" if mode == "s" else f"h = exclusive({path!r}); take(h)")
            b.tell(f"h = {open_}({path!r}{more}); _ = take(h, {mode!r})")
            assert b.answer(WAITS) is None, "must wait"
            before = b.switches()
            time.sleep(1.0)
            woke = b.switches() - before
            blocked = b.pid in kernel_locks(path)[1]
            self.rows["waits" + name] = "in the kernel" if blocked and woke <= 1 else \
                "polls" if woke >= 2 and not blocked else f"{woke} times, {blocked}"
            a.ask("drop(h, 'x')")
            assert b.answer()["ok"]
            b.ask(f"drop(h, {mode!r})")

    def order(self, a, b, c):
        """One waits and looks every 2 s; another comes later and looks every 20 ms."""
        path = self.path()
        a.ask(f"h = exclusive({path!r}); take(h)")
        b.tell(f"h = exclusive({path!r}); _ = take(h, timeout=8, interval=2)")
        assert b.answer(WAITS) is None, "must wait"
        c.tell(f"h = exclusive({path!r}); _ = take(h, timeout=8, interval=0.02)")
        assert c.answer(0.3) is None, "must wait"
        a.ask("drop(h)")
        late = c.answer(0.6)
        self.rows["order of waiters"] = "none: a later waiter overtakes" if late and late["ok"] else "first come"
        if late is None:
            b.answer()
            b.ask("drop(h)")
            c.answer()
            c.ask("drop(h)")
        else:
            c.ask("drop(h)")
            b.answer()
            b.ask("drop(h)")

    def starvation(self, a, b, c):
        """Does a waiting writer keep new readers out?"""
        cases = [("", "reader({!r})", "writer({!r})")]
        if self.library == "filelock":
            soft = "filelock.SoftReadWriteLock({!r}, is_singleton=False, poll_interval=0.05)"
            cases.append((", SoftReadWriteLock", soft, soft))
        for name, reader, writer in cases:
            path = self.path()
            a.ask(f"h = {reader.format(path)}; take(h, 's')")
            b.tell(f"h = {writer.format(path)}; _ = take(h, 'x')")
            assert b.answer(WAITS) is None, "must wait"
            joined = []
            for _ in range(10):
                joined.append(c.ask(f"h = {reader.format(path)}; _ = attempt(h, 's')"))
                if joined[-1]:
                    c.ask("drop(h, 's')")
                time.sleep(0.05)
            self.rows["readers starve a writer" + name] = "yes" if all(joined) else \
                "no" if not any(joined) else f"{sum(joined)} of {len(joined)} join"
            a.ask("drop(h, 's')")
            assert b.answer()["ok"]
            b.ask("drop(h, 'x')")

    def handles(self, a, b, c):
        """Two handles of one process."""
        path = self.path()
        a.ask(f"h1 = exclusive({path!r}); take(h1)")
        for name, code in (("one thread", f"_ = attempt(exclusive({path!r}))"),
                           ("two threads", f"_ = in_thread(lambda: attempt(exclusive({path!r})))")):
            self.rows[f"two handles, {name}"] = "not excluded" if a.ask(code) else "excluded"
        # What becomes of the first hold if its process opens the file elsewhere and closes it?
        a.kill()
        path = self.path()
        a = self.actor()
        a.ask(f"h = exclusive({path!r}); take(h); open({path!r}).close()")
        self.rows["the process opens and closes the file"] = \
            "the lock is lost" if b.ask(f"h = exclusive({path!r}); _ = attempt(h)") else "still held"
        a.kill()

    def reentrance(self, a, b, c):
        cases = [("", "exclusive({!r})")]
        if self.library == "portalocker":
            cases.append((", RLock", "portalocker.RLock({!r})"))
        for name, open_ in cases:
            path = self.path()
            a.ask(f"h = {open_.format(path)}; take(h)")
            a.tell("_ = take(h, timeout=1)")
            answer = a.answer()
            if not answer.get("ok"):
                self.rows["one handle twice" + name] = f"fails: {answer}"
                continue
            a.ask("drop(h)")
            b.ask(f"h = exclusive({path!r})")
            free = b.ask("_ = attempt(h)")
            self.rows["one handle twice" + name] = "granted, and the first release frees it" if free else "counted"
            b.kill()
            b = self.actor()

    def fork(self, a, b, c):
        """The holder forks and is killed. Does the lock end, or does the child keep it?"""
        path = self.path()
        a.ask(f"h = exclusive({path!r}); take(h)")
        child = a.ask("_ = os.fork()\nif _ == 0: time.sleep(5); os._exit(0)")
        a.kill()
        time.sleep(0.3)
        free = b.ask(f"h = exclusive({path!r}); _ = take(h, timeout=1)")
        self.rows["killed, with a forked child"] = "released" if free else "held until the child ends"
        os.kill(child, signal.SIGKILL)

    def killed(self, a, b, c):
        path = self.path()
        a.ask(f"h = exclusive({path!r}); take(h)")
        assert not b.ask(f"h = exclusive({path!r}); _ = attempt(h)")
        a.kill()
        self.rows["killed holder"] = "released" if b.ask("_ = take(h, timeout=3)") else "still held"
        b.ask("drop(h)")

    def replaced(self, a, b, c):
        cases = [("", "exclusive({!r})")]
        if self.library == "portalocker":
            cases.append((", TemporaryFileLock", "portalocker.TemporaryFileLock({!r}, fail_when_locked=False)"))
        def rename(path):
            # Renaming keeps the new file from getting the inode of the old one.
            os.rename(path, path + ".old")
            open(path, "w").close()

        for name, open_ in cases:
            # A file that is only removed is told by its link count.
            for event, change in [("replaced", rename), ("removed", os.unlink)]:
                path = self.path()
                a.ask(f"h = {open_.format(path)}; take(h)")
                b.tell(f"h = {open_.format(path)}; _ = take(h, timeout=5)")
                assert b.answer(WAITS) is None, "must wait"
                change(path)
                if self.library == "portalocker" and name:
                    a.kill()  # Its release would remove the file.
                else:
                    a.ask("drop(h)")
                granted = b.answer()
                fresh = c.ask(f"h = exclusive({path!r}); _ = attempt(h)")
                self.rows[f"a waiter notices a {event} file{name}"] = \
                    ("no" if fresh else "yes") if granted and granted.get("ok") else f"fails: {granted}"
                for actor in (a, b, c):
                    actor.kill()
                a, b, c = self.actor(), self.actor(), self.actor()
            # The holder: does its release, or a second acquire, say that the name is another file?
            path = self.path()
            a.ask(f"h = {open_.format(path)}; take(h)")
            os.rename(path, path + ".old")
            open(path, "w").close()
            a.tell("_ = take(h, timeout=1)")
            again = a.answer()
            a.tell("drop(h)")
            end = a.answer()
            self.rows["a holder notices a replaced file" + name] = "yes" if "error" in again or "error" in end else "no"

    def conversion(self, a, b, c):
        path = self.path()
        if self.library == "portalocker":
            # Its classes have no conversion; the function `lock` converts the lock of an open file.
            lock = f"f = open({path!r}, 'a+')\n" \
                   "def lock(flags):\n" \
                   "    try: portalocker.lock(f, flags | LockFlags.NON_BLOCKING)\n" \
                   "    except portalocker.AlreadyLocked: return False\n" \
                   "    return True\n"
            for actor in (a, b):
                actor.ask(lock)
            a.ask("lock(LockFlags.EXCLUSIVE)")
            down = a.ask("_ = lock(LockFlags.SHARED)") and b.ask("_ = lock(LockFlags.SHARED)")
            failed = a.ask("_ = lock(LockFlags.EXCLUSIVE)")
            # After the failed upgrade: has the first still its shared lock?
            kept = not b.ask("_ = lock(LockFlags.EXCLUSIVE)")
            up = a.ask("_ = lock(LockFlags.EXCLUSIVE)") if kept else True
        else:
            a.ask(f"h = writer({path!r})")
            b.ask(f"h = reader({path!r})")
            a.ask("take(h, 'x')")
            a.tell("_ = attempt(h, 's')")
            answer = a.answer()
            if "error" in answer:
                self.rows["conversion"] = answer["error"].split(":")[0]
                a.ask("drop(h, 'x')")
                a.ask("take(h, 's')")
                a.tell("_ = attempt(h, 'x')")
                assert "error" in a.answer()
                a.ask("drop(h, 's')")
                return
            down = answer["ok"] and b.ask("_ = attempt(h, 's')")
            failed = a.ask("_ = attempt(h, 'x')")
            kept = not b.ask("_ = attempt(h, 'x')")
            b.ask("drop(h, 's')")
            up = a.ask("_ = attempt(h, 'x')")
        self.rows["conversion"] = "yes" if down and up and not failed else "no"
        self.rows["a failed upgrade"] = "keeps the shared lock" if kept else "loses the shared lock"

    def fencing(self, a, b, c):
        if self.library == "filelock":
            path = self.path()
            open_ = f"h = filelock.SoftReadWriteLock({path!r}, is_singleton=False); h.acquire_write(); _ = h.generation; h.release()"
            tokens = [a.ask(open_), b.ask(open_), a.ask(open_)]
            self.rows["fencing token"] = "SoftReadWriteLock" if tokens == sorted(set(tokens)) else f"no: {tokens}"
        elif self.library == "portalocker":
            source = os.path.join(os.path.dirname(a.ask("_ = portalocker.__file__")), "redis.py")
            with open(source) as text:
                self.rows["fencing token"] = "RedisLock" if "def fence_token" in text.read() else "no"
        else:
            self.rows["fencing token"] = "no"

    def asynchronous(self, a, b, c):
        self.rows["async API"] = a.ask(
            "import importlib, inspect, pkgutil\n"
            f"import {self.library} as module\n"
            "found = set()\n"
            "for name in dir(module):\n"
            "    item = getattr(module, name)\n"
            "    if inspect.isclass(item) and any(inspect.iscoroutinefunction(getattr(item, m, None)) for m in ('acquire', 'acquire_write', '__aenter__')):\n"
            "        found.add(name)\n"
            "_ = 'yes' if found else 'no'")

    def decorators(self, a, b, c):
        path = self.path()
        made = {"fasteners": f"fasteners.interprocess_locked({path!r})",
                "filelock": f"filelock.FileLock({path!r})",
                "portalocker": f"portalocker.Lock({path!r})"}[self.library]
        a.tell(f"@{made}\ndef f(): time.sleep(1.5); return 7\n_ = f()")
        held = a.answer(WAITS) is None and not b.ask(f"h = exclusive({path!r}); _ = attempt(h)")
        answer = a.answer(5) if held else None
        self.rows["decorators"] = "yes" if held and answer["ok"] == 7 else "no"

    def without_fcntl(self, a, b, c):
        """A stand-in for Python on WASI, which has no module fcntl."""
        code = ("import sys, warnings; warnings.simplefilter('ignore'); sys.modules['fcntl'] = None\n"
                f"import {self.library} as m\n"
                "print(getattr(m, 'FileLock', m).__name__)")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=10)
        self.rows["without fcntl, as on WASI"] = "falls back to " + done.stdout.strip() if done.returncode == 0 \
            else done.stderr.strip().splitlines()[-1].split(":")[0]


def version(library):
    from importlib.metadata import version
    return version(library)


def main(arguments):
    if arguments[:1] == ["--actor"]:
        return act(arguments[1])
    (library,) = arguments
    assert library in LIBRARIES, library
    with tempfile.TemporaryDirectory() as directory:
        rows = {"version": version(library), **Probe(library, directory).run()}
    print(json.dumps(rows, indent=1))


main(sys.argv[1:])
