"""WebRTC out: what watchers cost a pipeline, what nobody costs it, what connects leave behind, and glass to glass."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Final

import psutil

from pipeline.app.bench.clips import SOURCE, Clip
from pipeline.app.bench.glass import glass_to_glass
from pipeline.app.bench.measure import in_turns
from pipeline.app.bench.models import stage
from pipeline.app.bench.numbered import reading
from pipeline.app.bench.report import Report, Row, Scale, paired
from pipeline.app.bench.subject import generation
from pipeline.app.bench.watchers import watchers
from pipeline.app.bench.web_site import serving
from pipeline.app.web.whep import MOST_WATCHERS
from pipeline.core.contracts import Generation, Source
from pipeline.core.errors import ThresherError
from sources.file import File

_WATCHERS: Final = 4
_CROWD: Final = 10  # that come and go together
_APART = "four aiortc peers in a process of their own that receive all and decode nothing, on the same cores"


def bench(scale: Scale) -> Report:
    network = stage("mobilenet-v3-small", "bf16")
    judged_by = generation(network)
    rows = [*_watched(scale, judged_by), *_connected(scale), *_glass(scale)]
    return Report(rows, {"stage": network.describe(), "clip": SOURCE.name})


def _watched(scale: Scale, judged_by: Generation) -> Iterator[Row]:
    clip = Clip("moving", width=1280, height=720, seconds=scale.of(20, 2)).made()
    cases = {
        "file, 768×576, flat out": File.model_validate({"path": SOURCE, "loop": True}),
        "file, 720p, flat out": File.model_validate({"path": clip, "loop": True}),
        "camera, 720p at its rate": File.model_validate({"path": clip, "loop": True, "realtime": True}),
    }
    for name, source in cases.items():
        yield from _case(scale, name, source, judged_by)


def _case(scale: Scale, name: str, source: Source, judged_by: Generation) -> Iterator[Row]:
    """With four watchers against none, on one pipeline that goes on, in turns."""
    seconds, pairs = scale.of(4, 1), scale.of(16, 1)
    idle: list[int] = []
    cores: dict[bool, list[float]] = {True: [], False: []}
    process = psutil.Process()
    with serving({"film": source}, judged_by) as (url, site):

        def rate(watched: bool) -> float:
            before, spent, began = site.running.snapshot().streams[0].results, _spent(process), time.perf_counter()
            time.sleep(seconds)
            took = time.perf_counter() - began
            cores[watched].append((_spent(process) - spent) / took)
            return (site.running.snapshot().streams[0].results - before) / took

        def alone() -> float:
            before = site.whep.encoded
            judged = rate(watched=False)
            idle.append(site.whep.encoded - before)
            return judged

        def watched() -> float:
            with watchers(_WATCHERS, f"{url}/whep/film"):
                judged = rate(watched=True)
            _until(lambda: not site.whep.watchers)
            return judged

        rates = in_turns(watched, alone, pairs)
    yield paired(f"watchers: {name}, four by WHEP against none", "frames/s", rates, 0.95, _APART)
    yield Row(f"watchers: {name}, encoded with no watcher", sum(idle), "pictures", at_most=0)
    if source.paced:  # where all is used up there is nothing to compare
        taken = [with_four - without for with_four, without in zip(cores[True], cores[False], strict=True)]
        yield Row(f"watchers: {name}, what four of them take", median(taken), "cores")


def _spent(process: psutil.Process) -> float:
    """Processor seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _until(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)


def _connected(scale: Scale) -> Iterator[Row]:
    """Half of the watchers say goodbye, half are killed."""
    rounds = scale.of(20, 2)
    source = File.model_validate({"path": SOURCE, "loop": True, "realtime": True})
    process = psutil.Process()
    with serving({"film": source}, reading()) as (url, site):

        def some(rounds: int) -> tuple[int, int, float]:
            for number in range(rounds):
                _until(lambda: site.whep.watchers + _CROWD <= MOST_WATCHERS)  # the killed ones are noticed in a while
                with watchers(_CROWD, f"{url}/whep/film") as crowd:
                    if number % 2:
                        crowd.process.kill()
            _until(lambda: not site.whep.watchers)
            time.sleep(1.0)
            gc.collect()
            return process.num_threads(), process.num_fds(), process.memory_info().rss / 2**20

        warm = some(2)
        after = some(rounds)
    bounds = (("threads", "threads", 2), ("descriptors", "files", 4), ("memory", "MiB", 30))
    for (name, unit, most), before, now in zip(bounds, warm, after, strict=True):
        figure = f"watchers: {name} grown by {rounds * _CROWD} that come and go or are killed"
        note = f"{before:.0f} after {2 * _CROWD} watchers, {now:.0f} after {rounds * _CROWD} more"
        yield Row(figure, now - before, unit, at_most=most, note=note)


def _glass(scale: Scale) -> Iterator[Row]:
    from sources.webrtc import WebRtc

    seconds = scale.of(20, 4)
    with serving({"lobby": WebRtc.model_validate({})}, reading()) as (url, _):
        seen = [glass_to_glass(url, "lobby", seconds=seconds) for _ in range(scale.of(3, 1))]
    glass = sorted(ms for one in seen for ms in one.glass_ms)
    if not glass:
        raise ThresherError("the browser saw no box")
    parts = ", ".join(f"{name} {value:.1f}" for name, value in seen[-1].parts.items() if isinstance(value, float))
    note = f"{len(glass)} frames, {seen[-1].parts['sent']} in, {seen[-1].parts['watched']} out; in ms: {parts}"
    yield Row("glass to glass: 640×480, 15 FPS, median", glass[len(glass) // 2], "ms", at_most=250, note=note)
    yield Row("glass to glass: 90 % are quicker than", glass[len(glass) * 9 // 10], "ms")
    first = max(one.first_box_ms or float("nan") for one in seen)
    yield Row("glass to glass: from the click to the first box, the slowest", first / 1000, "s", at_most=2.0)
    wrong = sum(one.wrong for one in seen)
    late = sum(one.unmatched for one in seen)
    yield Row("glass to glass: boxes on another frame than their own", wrong, "frames", at_most=0)
    yield Row("glass to glass: frames shown before their box had come", late, "frames")
