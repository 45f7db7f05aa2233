"""The Prometheus endpoint."""

from __future__ import annotations

import socket
import subprocess
import urllib.request
from dataclasses import replace

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.app.metrics import Endpoint, registry
from pipeline.core.errors import InputError
from pipeline.core.records import SourceState
from pipeline.core.snapshot import Latency, PolicySnapshot, SinkSnapshot, Snapshot, StageSnapshot, StreamSnapshot

LATENCY = Latency(3, 0.06, 20.0, 25.0, 25.0, 25.0, tuple((10 ** (-4 + i / 12), min(3, i // 20)) for i in range(73)))
SNAPSHOT = Snapshot(
    elapsed_s=2.0,
    ready=True,
    streams=(
        StreamSnapshot(
            stream="door",
            cascade="people",
            state=SourceState.LIVE,
            detail="",
            received_per_s=5.0,
            outcomes_per_s=5.0,
            received=20,
            sampled_out=4,
            damaged=3,
            undecoded=1,
            windows=12,
            results=6,
            failed=1,
            in_flight=2,
            flagged=2,
            connects=1,
            shed={"overload": 2, "deadline": 1},
            decided_by={"mobilenet": 4, "motion": 2},
            verdicts={"accept": 4, "reject": 2, "unknown": 8},
            latency=LATENCY,
        ),
    ),
    stages=(
        StageSnapshot("people", "mobilenet", "people@1", 1, 3, 12, 0, 0.25, LATENCY, {1: 1, 4: 1, 7: 1}),
        StageSnapshot("people", "resnet", "people@1", 0, 1, 2, 1, 0.05, LATENCY, {2: 1}),
    ),
    sinks=(SinkSnapshot("log", "ok", "", 3, 6, 1, 2, 4),),
    latency=LATENCY,
    cpu_percent=50.0,
    rss_bytes=1 << 28,
    policy=PolicySnapshot("evening", {"hate": "block"}, {"block": 2, "mute": 1}, 4, 1, 0, LATENCY),
)


def test_promtool_accepts_every_metric() -> None:
    text = generate_latest(registry(lambda: SNAPSHOT))
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert checked.returncode == 0, (checked.stdout + checked.stderr).decode()
    assert checked.stderr == b""


def test_both_ledgers_can_be_summed_from_the_endpoint() -> None:
    with (
        Endpoint(("127.0.0.1", 0), lambda: SNAPSHOT, "metrics.listen") as endpoint,
        urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/metrics", timeout=5) as answer,
    ):
        text = answer.read().decode()
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    assert sums["thresher_received_frames_total"] == 20
    assert sums["thresher_windows_total"] == 12
    outcomes = ("result", "shed", "failed")
    settled = sum(sums[f"thresher_{outcome}_windows_total"] for outcome in outcomes)
    assert settled + sums["thresher_in_flight_windows"] == sums["thresher_windows_total"]
    assert sums["thresher_verdicts_total"] + 4 + 2 == 20, "every frame but the sampled out and those in flight"
    assert sums["thresher_outcome_latency_seconds_count"] == 3
    assert sums["thresher_source_state"] == 1
    assert sums["process_resident_memory_bytes"] > 0


def test_batch_sizes_are_a_histogram() -> None:
    text = generate_latest(registry(lambda: SNAPSHOT)).decode()
    assert 'thresher_stage_batch_views_bucket{cascade="people",le="4",stage="mobilenet"} 2.0' in text
    assert 'thresher_stage_batch_views_sum{cascade="people",stage="mobilenet"} 12.0' in text


def test_the_policy_says_what_it_did_and_does() -> None:
    text = generate_latest(registry(lambda: SNAPSHOT)).decode()
    assert 'thresher_policy_actions_total{action="block",show="evening"} 2.0' in text
    assert 'thresher_policy_open_actions{action="block",show="evening"} 1.0' in text
    assert 'thresher_policy_open_actions{action="mute",show="evening"} 0.0' in text
    assert 'thresher_policy_decision_latency_seconds_count{show="evening"} 3.0' in text
    assert "policy" not in generate_latest(registry(lambda: replace(SNAPSHOT, policy=None))).decode()


def test_a_taken_port_is_the_users_to_change() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            Endpoint(("127.0.0.1", port), lambda: SNAPSHOT, "metrics.listen")
    assert caught.value.place == "metrics.listen"
