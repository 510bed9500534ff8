"""Takes a lock over and over by way of a Python library: what `contend.rs` does
for Rust. Arguments: library, what to do, lock, mode, then numbers. The lock is a
file or, on a server, its port and a name: `6379/name`."""

import sys
import time
from array import array

library, what, path, mode = sys.argv[1:5]
numbers = [int(n) for n in sys.argv[5:]]
now = time.monotonic_ns

if library == "fasteners":
    import fasteners

    lock = fasteners.InterProcessReaderWriterLock(path)
    if mode == "exclusive":
        acquire, release = lock.acquire_write_lock, lock.release_write_lock
    else:
        acquire, release = lock.acquire_read_lock, lock.release_read_lock
elif library == "filelock":
    import filelock

    lock = filelock.FileLock(path)
    acquire, release = lock.acquire, lock.release
elif library == "portalocker":
    import portalocker

    lock = portalocker.Lock(path, timeout=1e9)
    acquire, release = lock.acquire, lock.release
elif library.startswith("portalocker-"):
    import os
    import portalocker

    # How many permits there are, and how many are taken.
    _, of, count = library.split("-")
    directory, name = os.path.split(path)
    slots = [
        portalocker.NamedBoundedSemaphore(int(of), name, directory=directory, timeout=1e9)
        for _ in range(int(count))
    ]

    def acquire():
        for slot in slots:
            slot.acquire()

    def release():
        for slot in slots:
            slot.release()

elif library == "redis":
    import redis

    port, name = path.split("/")
    lock = redis.Redis(port=int(port)).lock(name, timeout=60)
    acquire, release = lock.acquire, lock.release
elif library == "postgres":
    import psycopg

    port, name = path.split("/")
    server = psycopg.connect(
        f"host=127.0.0.1 port={port} user=bench dbname=postgres", autocommit=True
    )

    def acquire():
        server.execute("SELECT pg_advisory_lock(hashtext(%s))", (name,))

    def release():
        server.execute("SELECT pg_advisory_unlock(hashtext(%s))", (name,))

else:
    sys.exit(f"unknown library {library}")


# As in `turns.rs`: what takes longer leaves the processor to others; nanoseconds.
LONG = 2_000_000


def pass_(since, length):
    time_ = since
    while time_ < since + length:
        if length >= LONG:
            time.sleep((since + length - time_) / 1e9)
        time_ = now()
    return time_


if what == "pairs":
    (count,) = numbers
    begun = now()
    for _ in range(count):
        acquire()
        release()
    print(now() - begun)
else:
    hold, pause = numbers
    print("ready", flush=True)
    until = int(sys.stdin.readline())
    turns = array("Q")
    asked = now()
    while asked < until:
        acquire()
        got = now()
        left = pass_(got, hold)
        release()
        turns.extend((asked, got, left))
        asked = pass_(now(), pause)
    if sys.byteorder != "little":
        turns.byteswap()
    sys.stdout.buffer.write(turns.tobytes())
