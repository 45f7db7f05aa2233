"""`python -m tests.durability --kills 200`: the full form, one JSON document on standard output."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.durability.harness import kill_again_and_again

options = argparse.ArgumentParser(prog="python -m tests.durability", description=__doc__)
options.add_argument("--kills", type=int, default=200)
options.add_argument("--seed", type=int, default=0)
given = options.parse_args()
with tempfile.TemporaryDirectory(prefix="thresher-kills-") as folder:
    found = kill_again_and_again(Path(folder), given.kills, given.seed)
print(json.dumps(found.document(), indent=2))
sys.exit(not found.clean)
