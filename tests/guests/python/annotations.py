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

with clasp.InterProcessLock("data/lock") as held:
    assert_type(held.acquired, bool)


async def later() -> None:
    assert_type(await count_later(1), str)
    async with clasp.aio.InterProcessReaderWriterLock("data/lock").write_lock() as held:
        assert_type(held, clasp.aio.InterProcessReaderWriterLock)
