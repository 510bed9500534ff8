"""Adds to the number in `data/count`, under the lock `data/count.lock`, as often as it is told.

componentize-py -w clasp:python/command componentize count -o count.wasm
clasp run --dir ./data::data --locks ./data::data count.wasm 100
"""

import sys

from clasp import InterProcessLock
from wit_world import exports


class Run(exports.Run):
    def run(self):
        for _ in range(int(sys.argv[1])):
            with InterProcessLock("data/count.lock"):
                with open("data/count", "r+") as file:
                    number = int(file.read())
                    file.seek(0)
                    file.write(str(number + 1))
