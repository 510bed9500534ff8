"""As `count.py`, with two tasks that share the work, on WASI 0.3: while one waits for the lock, the
other goes on.

componentize-py -w clasp:python/async-command componentize count_tasks -o count_tasks.wasm
clasp run --dir ./data::data --locks ./data::data count_tasks.wasm 100
"""

import asyncio
import sys

from clasp.aio import InterProcessLock
from wit_world import exports


async def count(turns):
    for _ in range(turns):
        async with InterProcessLock("data/count.lock"):
            with open("data/count", "r+") as file:
                number = int(file.read())
                file.seek(0)
                file.write(str(number + 1))


class Run(exports.Run):
    async def run(self):
        turns = int(sys.argv[1])
        await asyncio.gather(count(turns // 2), count(turns - turns // 2))
