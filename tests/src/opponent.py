"""A fasteners user that does as a test says, a line at a time."""

import sys

import fasteners

path = sys.argv[1]
lock = fasteners.InterProcessLock(path)
rw = fasteners.InterProcessReaderWriterLock(path)
calls = {
    "acquire": lambda: lock.acquire(),
    "try": lambda: lock.acquire(blocking=False),
    "release": lambda: lock.release() is None,
    "read": lambda: rw.acquire_read_lock(),
    "try-read": lambda: rw.acquire_read_lock(blocking=False),
    "release-read": lambda: rw.release_read_lock() is None,
    "write": lambda: rw.acquire_write_lock(),
    "try-write": lambda: rw.acquire_write_lock(blocking=False),
    "release-write": lambda: rw.release_write_lock() is None,
}
for line in sys.stdin:
    print("yes" if calls[line.strip()]() else "no", flush=True)
