"""What only a process of its own can show: how soon the first result comes, and how much memory it takes."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline.app.bench.clips import SOURCE, Clip
from pipeline.app.bench.measure import in_turns
from pipeline.app.bench.report import Report, Row, Scale, paired
from pipeline.core.errors import ThresherError
from pipeline.core.secrets import redact

_LONGEST_S = 60.0
_CLI = "import sys; from pipeline.app.cli import main; code = main(); "
_TELLS_OF_TORCH = _CLI + "print('torch imported:', 'torch' in sys.modules, file=sys.stderr); sys.exit(code)"
_IMPORTS = "import av, numpy, openvino, pydantic"
_SAMPLE_S = 0.5
_SETTLED = 0.3  # of the time: buffers fill, and the allocator finds its size


@contextmanager
def spawned(target: Callable[..., None], *given: object) -> Iterator[Connection]:
    """`target` in a process of its own, called with `given` and one end of a pipe; here is the other. It is killed in
    the end."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(*given, theirs), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.kill()
        process.join()
        process.close()


def start_bench(scale: Scale) -> Report:
    torch_seen: list[bool] = []

    def first_result() -> float:
        config = {
            "sources": {"film": {"kind": "file", "path": str(SOURCE)}},
            "sinks": {"out": {"kind": "jsonl", "path": "-"}},
        }
        began = time.perf_counter()
        with _thresher(config, stdout=subprocess.PIPE) as (child, said):
            assert child.stdout is not None
            line = child.stdout.readline()
            seconds = time.perf_counter() - began
            child.terminate()
            child.communicate(timeout=_LONGEST_S)
            if not line or json.loads(line).get("outcome") != "result":
                raise ThresherError(f"no first result: {_last(said)}")
            torch_seen.append("torch imported: True" in said.read_text("utf-8"))
        return seconds

    def imports() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", _IMPORTS], check=True)  # noqa: S603  # our own interpreter
        return time.perf_counter() - began

    pairs = in_turns(first_result, imports, scale.of(9, 1), warm=1)
    seconds = float(np.median(pairs.subject))
    rows = [
        Row("start: process start to first result on a file", seconds, "s", at_most=1.0),
        paired("start: against importing what it cannot do without", "s", pairs, note=f"baseline: {_IMPORTS}"),
        Row("start: torch imported", float(any(torch_seen)), "yes=1", at_most=0.0),
    ]
    return Report(rows, {"cascade": "people", "clip": SOURCE.name, "runtime": "openvino, compiled models cached"})


def memory_bench(scale: Scale) -> Report:
    clip = Clip("moving", seconds=scale.of(10, 1)).made()
    config = {
        "sources": {"film": {"kind": "file", "path": str(clip), "realtime": True, "loop": True}},
        "sinks": {"out": {"kind": "jsonl", "path": "results.jsonl"}},
    }
    seconds = 3.0 if scale.quick else 60 * scale.minutes
    times, sizes = [], []
    with _thresher(config) as (child, said):
        process, began = psutil.Process(child.pid), time.monotonic()
        while (age := time.monotonic() - began) < seconds:
            time.sleep(_SAMPLE_S)
            if child.poll() is not None:
                raise ThresherError(f"it ended by itself: {_last(said)}")
            times.append(age / 60)
            sizes.append(process.memory_info().rss / 2**20)
    first = int(len(times) * _SETTLED)
    slope = float(np.polyfit(times[first:], sizes[first:], 1)[0])
    rows = [
        Row("memory: resident, one 1080p stream, most", max(sizes), "MiB", at_most=400.0),
        Row("memory: growth", slope, "MiB/min", at_most=1.0, note=f"over the last {1 - _SETTLED:.0%} of {seconds:g} s"),
    ]
    return Report(rows, {"cascade": "people", "clip": clip.name, "seconds": seconds})


@contextmanager
def _thresher(
    config: Mapping[str, Any], stdout: int = subprocess.DEVNULL
) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """`thresher run` on `config` in an empty folder of its own, and the file with what it says on standard error."""
    with tempfile.TemporaryDirectory(prefix="thresher-bench-") as folder:
        said = Path(folder) / "said.txt"
        (Path(folder) / "config.yaml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
        with said.open("w") as errors:
            child = subprocess.Popen(  # noqa: S603  # our own interpreter
                [sys.executable, "-c", _TELLS_OF_TORCH, "run", "config.yaml"],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=errors, text=True,
            )  # fmt: skip
        try:
            yield child, said
        finally:
            if child.poll() is None:
                child.terminate()
                try:
                    child.wait(_LONGEST_S)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


def _last(said: Path) -> str:
    lines = said.read_text("utf-8").strip().splitlines()
    return redact(lines[-1]) if lines else "it said nothing"
