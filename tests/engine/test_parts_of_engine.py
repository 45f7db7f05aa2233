"""The engine's smaller parts by themselves: sampling, batches, distributions."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parts import generation

from pipeline.core.records import Window
from pipeline.engine.intake import Sampler
from pipeline.engine.stage_queue import StageQueue
from pipeline.engine.stream import Stream
from pipeline.engine.telemetry import Histogram
from pipeline.engine.ticket import Job


@given(
    fps=st.sampled_from([10.0, 15.0, 24.0, 25.0, 29.97, 30.0, 60.0]),
    wanted=st.floats(0.5, 40),
    jitter=st.floats(0, 1e6),
)
def test_sampling_keeps_the_rate_that_was_asked_for(fps: float, wanted: float, jitter: float) -> None:
    sampler = Sampler(wanted)
    n = 600
    taken = [i for i in range(n) if sampler.takes(int(i / fps * 1e9 + (jitter if i % 2 else 0)))]
    expected = min(wanted, fps) * n / fps
    assert len(taken) <= expected * 1.02 + 2
    assert len(taken) >= expected * 0.98 - 2


def test_sampling_halves_evenly_and_survives_a_leap() -> None:
    sampler = Sampler(15)
    taken = [i for i in range(30) if sampler.takes(round(i / 30 * 1e9))]
    assert taken == list(range(0, 30, 2))
    assert sampler.takes(0), "the clock went back: start anew, do not wait until it catches up"
    assert not sampler.takes(1_000_000)
    assert sampler.takes(10**15)


@given(values=st.lists(st.floats(1e-4, 90), min_size=1, max_size=300))
def test_quantiles_are_within_a_bucket(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    latency = histogram.latency()
    assert latency.count == len(values)
    assert latency.buckets[-1][1] == len(values)
    for share, got in ((0.5, latency.p50_ms), (0.99, latency.p99_ms)):
        true = float(np.quantile(values, share, method="inverted_cdf")) * 1e3
        assert true / 1.25 <= got <= true * 1.25 or abs(got - true) < 0.11


def _stream(budget_ms: float | None, linger_ms: float) -> Stream:
    stream = Stream(
        "s", "c", generation(), lambda *_: None,
        in_flight=100, block=True,
        budget_ns=None if budget_ms is None else int(budget_ms * 1e6), linger_ns=int(linger_ms * 1e6),
    )  # fmt: skip
    now = time.monotonic_ns()
    stream.admit(Window("s", "e", 0, 0, 1, now, now))  # the very first window lingers nowhere
    return stream


def _job(stream: Stream, seq: int) -> Job:
    now = time.monotonic_ns()
    return Job(stream.admit(Window("s", "e", seq, seq, seq + 1, now, now)), 0, now)


def test_a_full_batch_leaves_at_once_and_a_part_of_one_after_its_linger() -> None:
    queue, stream = StageQueue(4), _stream(None, 60)
    queue.put([_job(stream, i) for i in range(5)])
    began = time.monotonic()
    assert len(queue.take()) == 4
    assert time.monotonic() - began < 0.05
    assert len(queue.take()) == 1
    assert time.monotonic() - began >= 0.05


def test_a_pressing_deadline_beats_the_linger_and_goes_first() -> None:
    queue = StageQueue(4)
    lax, pressing = _stream(None, 10_000), _stream(80, 10_000)
    queue.put([_job(lax, 0)])
    queue.put([_job(pressing, 0)])
    began = time.monotonic()
    batch = queue.take()
    assert time.monotonic() - began < 2
    assert [job.ticket.stream for job in batch] == [pressing, lax]


def test_a_job_that_fills_the_batch_wakes_the_worker() -> None:
    queue, stream = StageQueue(2), _stream(None, 10_000)
    queue.put([_job(stream, 0)])
    threading.Timer(0.05, lambda: queue.put([_job(stream, 1)])).start()
    assert len(queue.take()) == 2


def test_workers_with_nothing_to_do_share_what_there_is() -> None:
    queue, stream = StageQueue(4), _stream(None, 10_000)
    sizes: list[int] = []
    threads = [threading.Thread(target=lambda: sizes.append(len(queue.take())), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)  # both wait
    queue.put([_job(stream, seq) for seq in range(4)])
    for thread in threads:
        thread.join(5)
    assert sizes == [2, 2]
    queue.put([_job(stream, seq) for seq in range(4, 8)])
    assert len(queue.take()) == 4  # nobody else is there


def test_closing_lets_every_worker_go() -> None:
    queue = StageQueue(2)
    threads = [threading.Thread(target=queue.take) for _ in range(3)]
    for thread in threads:
        thread.start()
    queue.close()
    for thread in threads:
        thread.join(2)
        assert not thread.is_alive()


def test_shed_jobs_are_forgotten_even_if_no_worker_comes() -> None:
    queue = StageQueue(2)
    for i in range(3000):
        stream = _stream(None, 0)
        queue.put([_job(stream, i)])
        stream.close()
    assert queue.waiting() <= 600


@pytest.mark.parametrize("budget_ms", [5, 50])
def test_expiry_sheds_in_order_and_names_the_next_deadline(budget_ms: float) -> None:
    left: list[int] = []
    stream = Stream(
        "s", "c", generation(), lambda ticket, _: left.append(ticket.window.seq),
        in_flight=10, block=False, budget_ns=int(budget_ms * 1e6), linger_ns=0,
    )  # fmt: skip
    now = time.monotonic_ns()
    for seq in range(3):
        stream.admit(Window("s", "e", seq, seq, seq + 1, now + seq * 1_000_000_000, 0))
    following = stream.expire(now + int(budget_ms * 1e6))
    assert left == [0]
    assert following == now + 1_000_000_000 + int(budget_ms * 1e6)
    assert stream.snapshot(0.0).shed == {"deadline": 1}
