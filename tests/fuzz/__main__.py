"""python -m tests.fuzz [--target NAME]… [--inputs N] [--seed S]: run targets over many inputs, in child processes.

python -m tests.fuzz --atheris NAME --seconds N: the same target, guided by coverage (`pip install atheris`, Linux).

Exit status 1 where anything was found; each such input is kept in --keep (tests/fuzz/found/TARGET), and the tests run
it again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

FOUND = Path(__file__).parent / "found"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", action="append", help="which (default: all)")
    parser.add_argument("--inputs", type=int, help="how many inputs each (default: the full form's number)")
    parser.add_argument("--scale", type=float, default=1.0, help="of the full form's numbers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=FOUND)
    parser.add_argument("--json", action="store_true", help="one document at the end")
    parser.add_argument("--atheris", metavar="NAME", help="guide one target by coverage")
    parser.add_argument("--seconds", type=int, default=60, help="for how long")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--state", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.atheris:
        from tests.fuzz.guided import guided

        return guided(asked.atheris, asked.seconds)

    from tests.fuzz import running

    if asked.child:
        running.child(asked.child, asked.first, asked.inputs, asked.seed, asked.state)
    unknown = set(asked.target or ()) - running.TARGETS.keys()
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}: there are {', '.join(running.TARGETS)}")
    reports = []
    for name in asked.target or running.TARGETS:
        inputs = asked.inputs or max(1, int(running.TARGETS[name].full * asked.scale))
        report = running.run(name, inputs, seed=asked.seed)
        reports.append(report)
        counts = {how: report.count(how) for how in ("error", "crash", "hang")}
        told = ", ".join(f"{count} {how}" for how, count in counts.items())
        print(f"{name}: {report.inputs:,} inputs, {told}, {report.seconds:.0f} s", file=sys.stderr, flush=True)
        for find in report.finds:
            kept = asked.keep / name / hashlib.sha256(find.data).hexdigest()[:16]
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(find.data)
            print(f"  {find.how} at input {find.number} ({kept}): {find.what}", file=sys.stderr, flush=True)
    if asked.json:
        rows = [
            {"target": one.target, "inputs": one.inputs, "seconds": round(one.seconds, 1)}
            | {f"{how}s": one.count(how) for how in ("error", "crash", "hang")}
            for one in reports
        ]
        print(json.dumps({"fuzz": rows}))
    return int(any(report.finds for report in reports))


if __name__ == "__main__":
    sys.exit(main())
