"""What the annotations of the distribution promise. Only checked, never run."""

from typing import assert_type

import clasp
import clasp.aio


@clasp.interprocess_locked("data/lock")
def count(number: int) -> str:
    return str(number)


@clasp.aio.interprocess_read_locked("data/lock")
async def count_later(number: int) -> str:
    return str(number)


assert_type(count(1), str)
assert_type(clasp.InterProcessLock("data/lock").acquire(timeout=1.5), bool)

@clasp.interprocess_limited("data/permits", 4)
def limited(number: int) -> str:
    return str(number)


assert_type(limited(1), str)

with clasp.InterProcessSemaphore("data/permits", 4) as permit:
    assert_type(permit.number, int)

with clasp.InterProcessLock("data/lock") as held:
    assert_type(held.acquired, bool)


async def later() -> None:
    assert_type(await count_later(1), str)
    async with clasp.aio.InterProcessReaderWriterLock("data/lock").write_lock() as held:
        assert_type(held, clasp.aio.InterProcessReaderWriterLock)
