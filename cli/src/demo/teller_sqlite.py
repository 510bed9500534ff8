"""A Python process that joins the database of `clasp demo --with sqlite`.

It does what the guest's `move` does, with the SQLite of Python and its default locks.
"""

import json
import random
import sqlite3
import sys
import time

path, seconds, seed, locked = sys.argv[1:5]
numbers = random.Random(int(seed))
end = time.monotonic() + float(seconds)
waits = []
report = 0.0


def transfer(database):
    begun = time.monotonic()
    database.execute("PRAGMA synchronous = OFF")
    database.execute("BEGIN IMMEDIATE")
    waited = time.monotonic() - begun
    for change in (-1, 1):
        account = numbers.randrange(16)
        sql = "UPDATE account SET balance = balance + ? WHERE id = ?"
        database.execute(sql, (change, account))
    database.execute("UPDATE ledger SET transfers = transfers + 1")
    database.execute("COMMIT")
    waits.append(waited)


database = sqlite3.connect(path, timeout=60, isolation_level=None)
while time.monotonic() < end:
    try:
        transfer(database)
    except sqlite3.Error:
        # Without locks, what other processes write at the same time makes no sense for a moment.
        if locked == "locked":
            raise
        if database.in_transaction:
            database.rollback()
    if time.monotonic() >= report:
        print(json.dumps({"operations": len(waits), "wrong": 0}), flush=True)
        report = time.monotonic() + 0.02
    time.sleep(0.0003)

waits.sort()
powers = [int(wait * 1e6).bit_length() for wait in waits] or [0]
print(
    json.dumps(
        {
            "operations": len(waits),
            "wrong": 0,
            "median_wait_us": int(waits[len(waits) // 2] * 1e6) if waits else 0,
            "worst_wait_us": int(waits[-1] * 1e6) if waits else 0,
            "waits": [powers.count(power) for power in range(max(powers) + 1)],
        }
    ),
    flush=True,
)
