"""The second half of the demo: a line of printed-circuit boards, 20 a second, through the cascade `pcb`.
What every part truly is stands in its name, so what was found can be held against the truth."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.app.config.document import Document
from pipeline.app.demo import missing_for_video
from pipeline.app.demo.parts import LINE, defects
from pipeline.core.errors import InputError

FPS, PASSES, DEADLINE_MS, MARGIN_MS = 20, 2, 1000, 100
_KINDS = {"good": "good", "single": "with one defect", "several": "with several"}


def document(results: Path, as_json: bool) -> Document:
    """The config. Results of an earlier demo are replaced."""
    for name in ("boards.jsonl", "boards.sqlite", "boards.sqlite-wal", "boards.sqlite-shm"):
        with contextlib.suppress(FileNotFoundError):
            (results / name).unlink()
    shutil.rmtree(results / "boards-rejected", ignore_errors=True)
    sinks: dict[str, Any] = {
        "table": {"kind": "console", "stream": "stderr" if as_json else "stdout"},
        "log": {"kind": "jsonl", "path": str(results / "boards.jsonl")},
        "db": {"kind": "sqlite", "path": str(results / "boards.sqlite")},
    }
    if missing_for_video() is None:
        sinks["rejects"] = {"kind": "rejects", "path": str(results / "boards-rejected"), "keep": 40}
    line = {
        "kind": "line", "path": str(LINE), "names": "*_part", "reference": str(LINE / "{stem}_temp.png"),
        "fps": FPS, "repeat": PASSES, "preload": True, "deadline_ms": DEADLINE_MS, "margin_ms": MARGIN_MS,
    }  # fmt: skip
    return Document({"sources": {"boards": line}, "sinks": sinks, "cascade": "pcb"}, Path.cwd(), "demo")


def truth(results: Path) -> dict[str, dict[str, int]]:
    """By kind of part (`good`, `single`, `several`): how many were accepted, rejected, and are unknown. Raises
    `InputError`."""
    file = results / "boards.sqlite"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT file, verdict FROM results").fetchall()
    except sqlite3.Error as error:
        raise InputError(f"the results cannot be read back: {error}", str(file)) from error
    counts = {kind: Counter({"accept": 0, "reject": 0, "unknown": 0}) for kind in _KINDS}
    for name, verdict in rows:
        counts[defects(name)][verdict] += 1
    return {kind: dict(counter) for kind, counter in counts.items()}


def findings(results: Path, report: dict[str, Any]) -> Iterator[str]:
    """What became of the boards, held against the truth, and where it lies."""
    found = truth(results)
    latency = report["latency_ms"]
    yield ""
    passed, different = sum(sum(one.values()) for one in found.values()), len(list(LINE.glob("*_part.*")))
    yield f"Boards, {FPS} a second ({passed} parts, {different} of them different):"
    for kind, word in _KINDS.items():
        counts = found[kind]
        yield (
            f"  {word:<16} {sum(counts.values()):>4}: {counts['accept']} accepted, {counts['reject']} rejected,"
            f" {counts['unknown']} unknown"
        )
    bad = [found["single"], found["several"]]
    rejected, judged = sum(one["reject"] for one in bad), sum(one["reject"] + one["accept"] for one in bad)
    if judged:
        yield f"  live recall      {rejected / judged:.1%} of the bad parts that got a verdict were rejected"
    if latency.get("p99") is not None:
        yield f"  verdict after    {latency['p50']:.1f} ms at the median, {latency['p99']:.1f} ms for 99 of 100"
    yield ""
    yield f"every verdict, a line each   {results / 'boards.jsonl'}"
    if missing_for_video() is None:
        yield f"rejected boards, as pictures {results / 'boards-rejected'}"
