"""Cases for `clasp.aio`; and one with a lock of another process, if the word is `taken`."""

import asyncio
import errno
import gc
import os
import sys
import traceback

from clasp.aio import (
    InterProcessLock,
    InterProcessReaderWriterLock,
    InterProcessSemaphore,
    interprocess_limited,
    interprocess_locked,
    interprocess_read_locked,
    interprocess_write_locked,
)
from wit_world import exports

_names = 0


def fresh():
    """A path that no other case uses."""
    global _names
    _names += 1
    return f"data/aio-{_names}"


async def is_free(path):
    lock = InterProcessLock(path)
    taken = await lock.acquire(blocking=False)
    if taken:
        lock.release()
    return taken


async def fails(kind, request):
    try:
        await request
    except kind as error:
        return error
    raise AssertionError(f"there was no {kind.__name__}")


async def tasks_take_turns():
    path, order = fresh(), []

    async def turn(number):
        async with InterProcessLock(path) as lock:
            assert lock.acquired
            order.append(number)
            await asyncio.sleep(0)
            order.append(number)

    await asyncio.gather(*(turn(number) for number in range(3)))
    assert order[::2] == order[1::2] and sorted(order[::2]) == [0, 1, 2], order


async def a_lock_is_free_after_the_block():
    path = fresh()
    async with InterProcessLock(path):
        assert not await is_free(path)
    assert await is_free(path)
    try:
        async with InterProcessLock(path):
            raise RuntimeError("in the block")
    except RuntimeError:
        assert await is_free(path)


async def a_try_and_a_timeout_say_no():
    path = fresh()
    async with InterProcessLock(path):
        other = InterProcessLock(path)
        assert not await other.acquire(blocking=False)
        assert not await other.acquire(timeout=0.005)
        assert not await other.acquire(timeout=0)
        assert not other.acquired
    assert await other.acquire(timeout=60)
    other.release()


async def readers_share():
    path = fresh()
    one, two = InterProcessReaderWriterLock(path), InterProcessReaderWriterLock(path)
    async with one.read_lock(), two.read_lock():
        writer = InterProcessReaderWriterLock(path)
        assert not await writer.acquire_write_lock(blocking=False)
    async with one.write_lock():
        assert not await two.acquire_read_lock(blocking=False)
    assert await two.acquire_read_lock()
    two.release_read_lock()


async def coroutine_functions_are_decorated():
    path = fresh()

    @interprocess_locked(path)
    async def alone(number):
        """What it does."""
        return number, await is_free(path)

    assert (alone.__name__, alone.__doc__) == ("alone", "What it does.")
    assert await alone(1) == (1, False)

    @interprocess_read_locked(path)
    async def reads():
        async with InterProcessReaderWriterLock(path).read_lock():
            return await is_free(path)

    @interprocess_write_locked(path)
    async def writes():
        return await InterProcessReaderWriterLock(path).acquire_read_lock(blocking=False)

    assert not await reads() and not await writes()
    assert await is_free(path)


async def permits_are_counted():
    path = fresh()
    one, two, three = (InterProcessSemaphore(path, 2) for _ in range(3))
    async with one, two:
        assert sorted([one.number, two.number]) == [0, 1]
        assert not await three.acquire(blocking=False)
        assert not await three.acquire(timeout=0.005)
        both = asyncio.ensure_future(three.acquire(count=2))
        await asyncio.sleep(0)
    assert await both
    assert three.numbers == [0, 1]
    await three.check()
    three.release()
    error = await fails(OSError, one.acquire(count=3))
    assert error.errno == errno.ENOTSUP, error

    most = inside = 0

    @interprocess_limited(path, 2)
    async def limited():
        nonlocal most, inside
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1

    await asyncio.gather(*(limited() for _ in range(5)))
    assert most == 2, most


async def tasks_share_an_object():
    lock, order = InterProcessLock(fresh()), []

    async def turn(number):
        async with lock:
            order.append(number)
            await asyncio.sleep(0)
            order.append(number)

    await asyncio.gather(turn(1), turn(2))
    assert order in ([1, 1, 2, 2], [2, 2, 1, 1]), order
    assert not lock.acquired
    await fails(RuntimeError, _call(lock.release))

    lock = InterProcessReaderWriterLock(lock.path)
    async with lock.read_lock():
        async with lock.read_lock():
            assert not await lock.acquire_write_lock(blocking=False)
        assert lock.acquired and not await is_free(lock.path)
    assert await is_free(lock.path)


async def _call(function):
    function()


async def failures_are_errors_of_the_system():
    error = await fails(OSError, InterProcessLock("elsewhere/lock").acquire())
    assert error.errno == errno.ENOTSUP, error
    error = await fails(OSError, InterProcessLock("data").acquire())
    assert error.errno == errno.ENOTSUP, error
    await fails(ValueError, InterProcessLock(fresh()).acquire(timeout=-1))


async def a_holder_learns_that_its_file_was_replaced():
    path = fresh()
    lock = InterProcessLock(path)
    await fails(RuntimeError, lock.check())
    async with lock:
        await lock.check()
        assert await lock.fencing_token() == await lock.fencing_token()
        os.remove(path)
        error = await fails(OSError, lock.check())
        assert error.errno == errno.ESTALE, error


async def missing_directories_are_made():
    path = fresh() + "/directory/lock"
    lock = InterProcessLock(path)
    assert not lock.exists()
    async with lock:
        assert lock.exists()


async def a_request_of_a_cancelled_task_is_given_back():
    path = fresh()
    holder = InterProcessLock(path)
    await holder.acquire()
    entered = False

    async def enter():
        nonlocal entered
        async with InterProcessLock(path):
            entered = True

    waiter = asyncio.ensure_future(enter())
    behind = asyncio.ensure_future(InterProcessLock(path).acquire())
    await asyncio.sleep(0)
    waiter.cancel()
    await fails(asyncio.CancelledError, waiter)
    holder.release()
    assert await behind
    assert not entered


async def a_lock_that_is_garbage_is_released():
    path = fresh()
    lock = InterProcessLock(path)
    await lock.acquire()
    lock.itself = lock
    del lock
    assert gc.collect() > 0
    assert await is_free(path)


async def other_tasks_go_on():
    path, steps = fresh(), []
    holder = InterProcessLock(path)
    await holder.acquire()

    async def wait():
        async with InterProcessLock(path):
            steps.append("waited")

    waiter = asyncio.ensure_future(wait())
    async with InterProcessLock(fresh()):
        steps.append("other")
    holder.release()
    await waiter
    assert steps == ["other", "waited"], steps


async def taken():
    lock = InterProcessLock("data/taken")
    assert not await lock.acquire(blocking=False)
    assert not await lock.acquire(timeout=0.005)
    print("waiting", flush=True)
    waiter = asyncio.ensure_future(lock.acquire())
    async with InterProcessLock("data/free"):
        print("meanwhile", flush=True)
    assert await waiter
    print("granted", flush=True)
    lock.release()


CASES = [
    tasks_take_turns,
    a_lock_is_free_after_the_block,
    a_try_and_a_timeout_say_no,
    readers_share,
    coroutine_functions_are_decorated,
    permits_are_counted,
    tasks_share_an_object,
    failures_are_errors_of_the_system,
    a_holder_learns_that_its_file_was_replaced,
    missing_directories_are_made,
    a_request_of_a_cancelled_task_is_given_back,
    a_lock_that_is_garbage_is_released,
    other_tasks_go_on,
]


class Run(exports.Run):
    async def run(self):
        failed = False
        for case in [taken] if sys.argv[1] == "taken" else CASES:
            try:
                await case()
                print(f"ok: {case.__name__}", flush=True)
            except BaseException:
                failed = True
                print(f"FAILED: {case.__name__}", flush=True)
                traceback.print_exc()
        if failed:
            sys.exit(1)
