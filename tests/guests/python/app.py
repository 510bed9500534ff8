"""The guest: `peers.py` with the modules of this project."""

import clasp
import peers
from wit_world import exports


class Run(exports.Run):
    def run(self):
        peers.main(clasp)
