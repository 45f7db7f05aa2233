"""Runs targets over many inputs, each target in a process of its own, so that a crash or a hang is found and named.

The child lays each input into shared memory before it runs it. Where the child dies, or is at one input for too long,
that input is there to be kept, and another child goes on behind it.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.fuzz.mutate import mutated, numbered
from tests.fuzz.targets import TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
HANG_S = 10.0
_START_S = 120.0  # importing, and making the seeds
_MOST_FINDS = 20
_IDLE_TIMES = 6
_STATE = struct.Struct("<qq")  # number and length of the input that is under way, which stands behind


@dataclass(frozen=True, slots=True)
class Find:
    """`how`: `error` (one that is not documented), `crash` (by which signal) or `hang`."""

    number: int
    how: str
    what: str
    data: bytes = field(repr=False)


@dataclass(slots=True)
class Report:
    target: str
    inputs: int = 0
    seconds: float = 0.0
    finds: list[Find] = field(default_factory=list)

    def count(self, how: str) -> int:
        return sum(find.how == how for find in self.finds)


def made(target: Target, seed: int, number: int) -> bytes:
    """The input with that number."""
    seeds = target.corpus()
    if number < len(seeds):
        return seeds[number][: target.largest]
    return mutated(seeds, numbered(target.name, seed, number), documents=target.documents)[: target.largest]


def run(name: str, inputs: int, *, seed: int = 0, hang_s: float = HANG_S) -> Report:
    """Inputs 0 to `inputs` of the target called `name`."""
    report, began = Report(name), time.monotonic()
    following = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        while following < inputs and len(report.finds) < _MOST_FINDS:
            following = _run_child(report, Path(folder), following, inputs, seed, hang_s)
    report.inputs, report.seconds = following, time.monotonic() - began
    return report


def _run_child(report: Report, folder: Path, first: int, inputs: int, seed: int, hang_s: float) -> int:
    """One child's part; the number of the input to go on with."""
    target = TARGETS[report.target]
    state = folder / "state"
    state.write_bytes(_STATE.pack(-1, 0) + bytes(target.largest))
    command = [sys.executable, "-m", "tests.fuzz", "--child", report.target, "--first", str(first)]
    command += ["--inputs", str(inputs), "--seed", str(seed), "--state", str(state)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    with (
        (folder / "out").open("wb") as out,
        (folder / "err").open("wb") as err,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err) as child,
        state.open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as shared,
    ):
        hung = _watch(child, shared, hang_s)
        number, length = _STATE.unpack_from(shared)
        data = shared[_STATE.size : _STATE.size + length]
    for line in (folder / "out").read_text("utf-8", "replace").splitlines():
        told = json.loads(line)
        report.finds.append(Find(told["number"], "error", told["what"], bytes.fromhex(told["data"])))
    if hung or child.returncode:
        if number < 0:
            raise RuntimeError((folder / "err").read_text("utf-8", "replace")[-4000:])
        code = child.returncode
        what = "at one input for too long" if hung else _ended(code) + (folder / "err").read_text()[-500:]
        report.finds.append(Find(number, "hang" if hung else "crash", what, data))
        return int(number) + 1
    return inputs


def _ended(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _watch(child: subprocess.Popen[bytes], shared: mmap.mmap, hang_s: float) -> bool:
    """Until it ends; whether it had to be killed. What counts is the time that it computes, for the machine may be busy
    with other things; who computes nothing gets so much the longer."""
    last, began_s, used_s = None, time.monotonic(), 0.0
    while True:
        try:
            child.wait(0.2)
        except subprocess.TimeoutExpired:
            number, _ = _STATE.unpack_from(shared)
            now_used_s = _computed_s(child.pid)
            if number != last:
                last, began_s, used_s = number, time.monotonic(), now_used_s
            limit_s = hang_s if number >= 0 else _START_S
            if now_used_s - used_s > limit_s or time.monotonic() - began_s > _IDLE_TIMES * limit_s:
                child.kill()
                return True
        else:
            return False


def _computed_s(pid: int) -> float:
    with suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


def child(name: str, first: int, inputs: int, seed: int, state: Path) -> None:
    """The child's whole life: a line of JSON for each error of a kind that was not seen before."""
    warnings.simplefilter("error", RuntimeWarning)
    target, seen = TARGETS[name], set[str]()
    target.corpus()
    with state.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        for number in range(first, inputs):
            data = made(target, seed, number)
            _STATE.pack_into(shared, 0, number, len(data))
            shared[_STATE.size : _STATE.size + len(data)] = data
            try:
                target(data)
            except Exception as error:  # noqa: BLE001 that is what is looked for
                where = _signature(error)
                if where not in seen and len(seen) < _MOST_FINDS:
                    seen.add(where)
                    what = f"{type(error).__name__}: {error} at {where}"
                    print(json.dumps({"number": number, "what": what[:500], "data": data.hex()}), flush=True)
    os._exit(0)  # servers' threads go with it


def _signature(error: BaseException) -> str:
    """Where in our own code it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(str(ROOT)) and "/.venv/" not in frame.filename]
    last: Any = (own or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno} {type(error).__name__}"
