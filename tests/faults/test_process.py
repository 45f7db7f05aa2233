"""What the system does to the whole process: stops it, sets its clock, leaves it without descriptors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

_STEADY = """
import json, logging, sys, time
from pathlib import Path
sys.path[:0] = ["tests/engine"]
from parts import generation, grey
from pipeline.engine.events import EventSettings
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.jsonl import Jsonl
from sources.faulty import Faulty
from sources.memory import Memory

logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
ahead, true_ns = Path(__file__).with_name("ahead"), time.time_ns

def set_clock() -> int:  # as whoever sets the one on the wall (a library that fakes it breaks time.sleep)
    return true_ns() + int(ahead.read_text() or 0) * 10**9

if ahead.exists():
    time.time_ns, time.time = set_clock, lambda: set_clock() / 1e9
if __name__ == "__main__":
    frames = [grey(200 + n % 20) for n in range(100)]
    camera = Faulty(of=Memory(script=frames, repeat=1000, fps=20, realtime=True), as_live=True, silence_s=3.0)
    sink = Jsonl(path=sys.argv[1])
    pipeline = Pipeline([StreamPlan("c", camera, "c", generation())], {"log": sink})
    pipeline.start()
    print("ready", flush=True)
    sys.stdin.readline()
    pipeline.stop(3.0)
    (stream,) = pipeline.snapshot().streams
    print(json.dumps({"connects": stream.connects, "received": stream.received, "windows": stream.windows,
                      "results": stream.results, "shed": dict(stream.shed), "failed": stream.failed,
                      "damaged": stream.damaged, "undecoded": stream.undecoded}), flush=True)
"""


class Steady:
    """A pipeline in a process of its own, which reports when it is told to end."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log.jsonl"
        script = folder / "steady.py"
        script.write_text(_STEADY)
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.log)],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def outcomes(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [document for line in lines if "outcome" in (document := json.loads(line))]

    def until(self, count: int) -> None:
        end_s = time.monotonic() + 60
        while len(self.outcomes()) < count:
            assert time.monotonic() < end_s
            time.sleep(0.05)

    def end(self) -> tuple[dict[str, Any], str]:
        """Its last word, and what it wrote to standard error."""
        said, errors = self.process.communicate("\n", 60)
        assert self.process.returncode == 0, errors
        return json.loads(said), errors

    def check(self, told: dict[str, Any]) -> None:
        outcomes = self.outcomes()
        ids = [one["id"] for one in outcomes]
        assert len(set(ids)) == len(ids), "no outcome comes twice"
        kinds = Counter(one["outcome"] for one in outcomes)
        assert (kinds["result"], kinds["shed"], kinds["failed"]) == (
            told["results"], sum(told["shed"].values()), told["failed"],
        )  # fmt: skip
        assert told["received"] == told["windows"] + told["damaged"] + told["undecoded"]
        assert told["windows"] == told["results"] + sum(told["shed"].values()) + told["failed"]
        seqs = [one["seq"] for one in outcomes]
        assert seqs == sorted(seqs)


@pytest.mark.slow
def test_a_process_that_is_stopped_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    """It stands still for far longer than a source may be silent: neither it nor its camera is to blame."""
    steady = Steady(tmp_path)
    steady.until(10)
    os.kill(steady.process.pid, signal.SIGSTOP)
    time.sleep(8)
    before = len(steady.outcomes())
    os.kill(steady.process.pid, signal.SIGCONT)
    steady.until(before + 20)
    told, errors = steady.end()
    steady.check(told)
    assert "hangs" not in errors and told["connects"] == 1, errors


@pytest.mark.slow
def test_the_clock_on_the_wall_may_leap(tmp_path: Path) -> None:
    """An hour ahead, then a day back: times that are shown follow it, nothing else."""
    ahead = tmp_path / "ahead"
    ahead.write_text("0")
    steady = Steady(tmp_path)
    for seconds in (0, 3600, -86400):
        ahead.write_text(str(seconds))
        steady.until(len(steady.outcomes()) + 25)
    told, errors = steady.end()
    steady.check(told)
    assert told["connects"] == 1 and told["failed"] == 0 and "hangs" not in errors, errors
    hours = {one["time"][:13] for one in steady.outcomes()}
    assert len(hours) >= 3, "the wall's clock did leap"
    assert all(one["latency_ms"] >= 0 for one in steady.outcomes())


_OUT_OF_FILES = """
import json, os, resource, sys, time
sys.path[:0] = ["tests/engine"]
from pathlib import Path
from parts import generation, grey
from pipeline.core.errors import InputError, SinkBusy, SourceLost
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.jsonl import Jsonl
from sinks.sqlite import Sqlite
from sources.faulty import Faulty
from sources.memory import Memory
from sources.rtsp import Rtsp

class Far(Rtsp):
    pass

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    frames = [grey(200 + n % 20) for n in range(100)]
    film = Faulty(of=Memory(script=frames, repeat=3, fps=50, realtime=True, overflow="block"),
                  script=({"fault": "none"},))
    camera = Rtsp(url="rtsp://127.0.0.1:9/none")
    pipeline = Pipeline(
        [StreamPlan("film", film, "c", generation()), StreamPlan("camera", camera, "c", generation())],
        {"log": Jsonl(path=str(folder / "log.jsonl")), "db": Sqlite(path=str(folder / "db.sqlite"))},
    )
    pipeline.start()
    pipeline.wait(1.0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    refused = ""
    try:
        Jsonl(path=str(folder / "other.jsonl")).open()
    except (InputError, SinkBusy) as error:
        refused = str(error)
    pipeline.wait(2.0)
    during = pipeline.snapshot()
    for fd in taken:
        os.close(fd)
    end = time.monotonic() + 60
    while pipeline.snapshot().streams[0].results < 300 and time.monotonic() < end:
        time.sleep(0.1)
    pipeline.stop(3.0)
    after = pipeline.snapshot()
    print(json.dumps({"refused": refused, "results": after.streams[0].results, "failed": after.streams[0].failed,
                      "camera": during.streams[1].state.value, "detail": during.streams[1].detail,
                      "lost": sum(sink.dropped + sink.refused for sink in after.sinks)}))
"""


@pytest.mark.slow
def test_out_of_descriptors_nothing_is_lost_and_it_recovers(tmp_path: Path) -> None:
    script = tmp_path / "out_of_files.py"
    script.write_text(_OUT_OF_FILES)
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert "Too many open files" in told["refused"]
    assert told["camera"] == "connecting" and told["detail"]
    assert (told["results"], told["failed"], told["lost"]) == (300, 0, 0), run.stderr
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len({one["id"] for one in lines if one.get("stream") == "film" and "outcome" in one}) == 300
