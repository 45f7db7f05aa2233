"""A receiver that is away for ten minutes, a hundred times as fast: in the end all that flowed meanwhile is there, in
order, and nothing piled up in memory."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil
import pytest

from pipeline.core import reach
from pipeline.core.reach import NetworkSettings
from pipeline.core.snapshot import Latency, Snapshot
from pipeline.engine.delivery import SinkRunner
from sinks.webhook import Webhook
from tests.contracts.sink_suite import result
from tests.durability.receivers import Hook

_AWAY_S = 6.0
_A_SECOND = 1_000  # ten a second for ten minutes
_STREAMS = 4
NOW = Snapshot(0.0, True, (), (), (), Latency(), 0.0, 0)


@pytest.mark.slow
def test_ten_minutes_without_a_receiver_cost_nothing_but_time(tmp_path: Path) -> None:
    with Hook() as hook, reach.using(NetworkSettings(private=True)):
        settings = {name: value for name, value in hook.settings().items() if name != "kind"}
        sink = Webhook.model_validate(settings | {"outbox": {"path": str(tmp_path)}})
        runner = SinkRunner("hook", sink, lambda: NOW)
        runner.open()
        hook.stop()
        process, begun, put, most = psutil.Process(), time.monotonic(), 0, 0
        before = process.memory_info().rss
        while time.monotonic() < begun + _AWAY_S:
            while put < (time.monotonic() - begun) * _A_SECOND and not runner.full():
                runner.put(result(put // _STREAMS, stream=f"camera-{put % _STREAMS}"), None, True)
                put += 1
            most = max(most, runner.snapshot().waiting)
            time.sleep(0.01)
        said = runner.snapshot()
        assert said.dropped == said.refused == 0 and said.state == "busy"
        hook.start()
        end = time.monotonic() + 120.0
        while not (runner.drained() and runner.snapshot().outbox.waiting == 0) and time.monotonic() < end:  # type: ignore[union-attr]
            time.sleep(0.05)
        grown = process.memory_info().rss - before
        runner.finish(time.monotonic() + 10.0)
        runner.join(time.monotonic() + 10.0)
        came = [json.loads(line) for line in (hook.folder / "received.jsonl").read_text().splitlines()]
    seqs: dict[str, list[int]] = {}
    seen: set[str] = set()
    for post in came:
        if post["id"] not in seen:
            seen.add(post["id"])
            seqs.setdefault(post["body"]["stream"], []).append(post["body"]["seq"])
    assert put > 1_000 and len(seen) == put, "none is missing"
    assert all(found == sorted(found) for found in seqs.values()) and len(seqs) == _STREAMS
    assert most <= 4096 and grown < 100 << 20
