"""A Python process that joins the ledger of `clasp demo`.

It does what the guest's `move` does, under fasteners' lock.
"""

import contextlib
import json
import random
import sys
import time

import fasteners

path, seconds, seed, locked = sys.argv[1:5]
lock = fasteners.InterProcessLock(path[: -len("ledger")] + "ledger.lock")
hold = lock if locked == "locked" else contextlib.nullcontext()
numbers = random.Random(int(seed))
end = time.monotonic() + float(seconds)
waits = []
report = 0.0


def transfer(file):
    file.seek(0)
    lines = [int(line) for line in file.read().split()]
    source, target = numbers.sample(range(1, len(lines)), 2)
    changes = {0: lines[0] + 1}
    if lines[source] > 0:
        changes = {source: lines[source] - 1, target: lines[target] + 1, **changes}
    for line, value in changes.items():
        file.seek(line * 21)
        file.write(b"%020d\n" % value)


with open(path, "r+b", buffering=0) as file:
    while time.monotonic() < end:
        begun = time.monotonic()
        with hold:
            waits.append(time.monotonic() - begun)
            transfer(file)
        if time.monotonic() >= report:
            print(json.dumps({"operations": len(waits), "wrong": 0}), flush=True)
            report = time.monotonic() + 0.02
        time.sleep(0.0003)

waits.sort()
powers = [int(wait * 1e6).bit_length() for wait in waits]
print(
    json.dumps(
        {
            "operations": len(waits),
            "wrong": 0,
            "median_wait_us": int(waits[len(waits) // 2] * 1e6),
            "worst_wait_us": int(waits[-1] * 1e6),
            "waits": [powers.count(power) for power in range(max(powers) + 1)],
        }
    ),
    flush=True,
)
