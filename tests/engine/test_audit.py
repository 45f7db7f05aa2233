"""The audit inside the engine: what was emitted stands, nothing live waits, nothing is skipped in silence."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from audit_parts import (
    ALONE,
    ASKED,
    FALSE,
    HEAVY,
    NOTHING,
    SLIPS,
    AuditSink,
    Known,
    Pictures,
    audited,
    emitted,
    run,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parts import grey
from test_pipeline import check_ledgers

from pipeline.core.contracts import Generation
from pipeline.core.records import Audit, Outcome, Result
from pipeline.core.snapshot import AuditSnapshot, Snapshot
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.memory import Collector
from sources.memory import LiveMemory, Memory, Pause

LEVELS = (NOTHING, SLIPS, ASKED, ALONE, FALSE)


class Echo:
    """A gate by which nothing ever changes."""

    name = "echo"

    carries = True

    def changed(self, luma: np.ndarray, pts_ns: int) -> bool:
        return False

    def judged(self, luma: np.ndarray, pts_ns: int) -> None:
        pass

    def forget(self) -> None:
        pass


def records(collector: Collector) -> list[Audit]:
    return [item for item in collector.items if isinstance(item, Audit)]


def check_audit(snapshot: Snapshot, collector: Collector) -> AuditSnapshot:
    """The third ledger, and that each audit is of a window that had its outcome."""
    (audit,) = snapshot.audits
    assert audit.picked == audit.audited + sum(audit.skipped.values()) + audit.waiting
    assert audit.waiting == 0
    seen = records(collector)
    assert len(seen) == audit.audited
    assert len({one.window.id for one in seen}) == len(seen)
    outcomes = {one.window.id: one for one in collector.outcomes}
    for one in seen:
        assert one.outcome == outcomes[one.window.id].kind
    return audit


scripts = st.lists(st.sampled_from(LEVELS).map(grey), min_size=1, max_size=24)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    script=scripts,
    poison=st.sets(st.sampled_from(LEVELS), max_size=1),
    bad_again=st.sets(st.sampled_from(LEVELS), max_size=2),
    share=st.sampled_from([0.2, 1.0]),
    most=st.sampled_from([None, 1.0]),
    reserve=st.integers(1, 3),
)
def test_an_audit_changes_nothing_of_what_is_emitted(
    tmp_path_factory, script, poison, bad_again, share, most, reserve
) -> None:
    state = tmp_path_factory.mktemp("audit") / "a.json"
    poison = frozenset(poison)
    generation = audited(
        state, cheap=Known(poison=poison), again=Known("audit", table=HEAVY, poison=frozenset(bad_again)),
        share=share, share_at_most=most, reserve=reserve, alpha=0.999, delta=1e-9,
    )  # fmt: skip
    bare = Generation(generation.id, generation.cheap, generation.heavy, generation.rule)
    source = Memory(script=script, in_flight=8)
    plain, without = run(source, bare)
    snapshot, collector = run(source, generation)
    assert not plain.audits
    assert list(map(emitted, collector.outcomes)) == list(map(emitted, without.outcomes))
    check_ledgers(snapshot.streams[0], collector)
    audit = check_audit(snapshot, collector)
    assert "no room" not in audit.skipped, "a stream that can wait does so"
    assert set(audit.skipped) <= {"fault", "no picture"}
    if share == 1.0:
        levels = [int(step[0, 0, 0]) for step in script]
        mine = [n for n in levels if n != ASKED or n in poison]  # of those asked, the heavy stage saw the whole anyway
        assert audit.picked == len(mine)
        assert audit.audited == sum(n not in bad_again for n in mine)
        assert audit.report.missed == sum(HEAVY[n] > 0.5 and (n == SLIPS or n in poison) and n not in bad_again
                                          for n in mine)  # fmt: skip


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    stop_after_s=st.floats(0.05, 0.3),
    slow_ms=st.integers(0, 20),
    again_ms=st.integers(0, 60),
    reserve=st.integers(1, 4),
    budget_ms=st.sampled_from([None, 15.0, 60.0]),
    alpha=st.sampled_from([0.01, 0.999]),
)
def test_the_ledgers_hold_under_overload_and_when_stopped_in_the_middle(
    tmp_path_factory, stop_after_s, slow_ms, again_ms, reserve, budget_ms, alpha
) -> None:
    """Also where the alarm goes off in between."""
    generation = audited(
        tmp_path_factory.mktemp("audit") / "a.json",
        cheap=Known(slow_s=slow_ms / 1e3),
        heavy=Known("heavy", table=HEAVY, slow_s=slow_ms / 1e3),
        again=Known("audit", table=HEAVY, slow_s=again_ms / 1e3),
        reserve=reserve, alpha=alpha,
    )  # fmt: skip
    source = LiveMemory(
        script=[grey(n) for n in LEVELS], repeat=200, fps=500, realtime=True, in_flight=4, latency_budget_ms=budget_ms
    )
    snapshot, collector = run(source, generation, stop_after_s=stop_after_s)
    check_ledgers(snapshot.streams[0], collector)
    assert snapshot.streams[0].in_flight == 0
    audit = check_audit(snapshot, collector)
    assert set(audit.skipped) <= {"no room", "no time", "alarm"}
    if not audit.report.alarm:
        skipped = sum(audit.skipped.values())
        assert audit.report.unseen == skipped, "what could not be looked at is counted as what may be anything"


def truth(outcomes: list[Outcome], script: list[int]) -> float:
    """The share of what the heavy stage flags that was not reported."""
    flagged = [one for one in outcomes if HEAVY[script[one.window.seq % len(script)]] > 0.5]
    return sum(not (isinstance(one, Result) and one.flagged) for one in flagged) / len(flagged)


def test_the_estimate_comes_to_the_true_miss_rate(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    script = random.choice([NOTHING, SLIPS, ASKED, ALONE], 500, p=[0.6, 0.05, 0.15, 0.2]).tolist()
    source = Memory(script=[grey(n) for n in script], repeat=10)
    again = Known("audit", table=HEAVY)
    generation = audited(tmp_path / "a.json", again=again, share=0.3, alpha=0.5, delta=1e-3)
    snapshot, collector = run(source, generation)
    report = check_audit(snapshot, collector).report
    rate = truth(collector.outcomes, script)
    assert report.estimate == pytest.approx(rate, abs=0.03)
    assert report.lower < rate < report.upper < 0.5
    assert report.state == "confirmed"
    assert (report.units, report.unseen) == (5000, 0)
    assert sum(again.batches) == report.audited < 5000 * 0.3


def test_the_estimate_comes_to_the_true_rate_also_where_windows_are_shed(tmp_path: Path) -> None:
    """A shed window reports nothing. If it held something, that was missed."""
    random = np.random.default_rng(8)
    script = random.choice([NOTHING, SLIPS, ASKED, ALONE], 500, p=[0.3, 0.1, 0.3, 0.3]).tolist()
    source = LiveMemory(script=[grey(n) for n in script], repeat=2, fps=800, realtime=True, in_flight=4)
    generation = audited(
        tmp_path / "a.json", cheap=Known(slow_s=0.004, max_batch=1), share=0.5, alpha=0.9, delta=1e-3, reserve=1000
    )
    snapshot, collector = run(source, generation, stop_after_s=1.7)
    shed = sum(snapshot.streams[0].shed.values())
    assert shed > 200
    report = check_audit(snapshot, collector).report
    rate = truth(collector.outcomes, script)
    assert rate > 0.4
    assert report.lower < rate < report.upper
    assert report.estimate == pytest.approx(rate, abs=0.1)
    of_shed = [one for one in records(collector) if one.outcome == "shed"]
    assert of_shed and any(one.missed for one in of_shed) and not any(one.reported for one in of_shed)


def test_nothing_live_ever_stands_behind_an_audit(tmp_path: Path) -> None:
    """Its stage hangs for good, its reserve is full: every window is judged all the same, and by other queues."""
    hang = threading.Event()
    heavy, again = Known("heavy", table=HEAVY), Known("audit", table=HEAVY, hang=hang)
    generation = audited(tmp_path / "a.json", heavy=heavy, again=again, reserve=2)
    source = LiveMemory(
        script=[grey(n) for n in LEVELS], repeat=40, fps=400, realtime=True, in_flight=64, latency_budget_ms=2000
    )
    sink = AuditSink()
    pipeline = Pipeline([StreamPlan("s", source, "known", generation)], {"sink": sink})
    pipeline.start()
    deadline = time.monotonic() + 10
    while len(sink.collector.results) < 200 and time.monotonic() < deadline:
        time.sleep(0.01)
    began = time.monotonic()
    pipeline.stop(drain_s=2.0)
    assert time.monotonic() - began < 3, "a stop has to end"
    hang.set()
    assert len(sink.collector.results) == 200
    assert sum(heavy.batches) == 40, "the heavy stage saw what the rule asked of it, and no more"
    audit = pipeline.snapshot().audits[0]
    assert len(again.batches) == 1
    assert audit.audited == 0
    assert audit.skipped == {"no room": 157, "no time": 3}
    assert audit.report.unseen == 160
    assert audit.report.lower == 0.0 and audit.report.upper > 160 / 200
    assert audit.report.worst == pytest.approx(160 / 200), "but of the 40 the word was there"


def test_the_upper_bound_holds_while_looks_are_due(tmp_path: Path) -> None:
    """Catches of the ordinary course are known at once, and a stage that hangs keeps every miss waiting."""
    hang = threading.Event()
    generation = audited(
        tmp_path / "a.json", again=Known("audit", table=HEAVY, hang=hang), reserve=1000, alpha=0.2, delta=0.1
    )
    source = LiveMemory(script=[grey(ASKED), grey(SLIPS)], repeat=200, fps=1000, realtime=True, in_flight=512)
    sink = AuditSink()
    pipeline = Pipeline([StreamPlan("s", source, "known", generation)], {"sink": sink})
    pipeline.start()
    deadline = time.monotonic() + 10
    while len(sink.collector.results) < 400 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # the thread that hangs in the model counts no word, either
    (audit,) = pipeline.snapshot().audits
    hang.set()
    pipeline.stop(drain_s=10.0)
    assert (audit.waiting, audit.report.unseen) == (200, 0)
    assert audit.report.upper > 0.5, "half of what matters is missed"
    assert audit.report.state == "unproven"
    assert audit.report.worst is not None and audit.report.worst >= 0.5


def test_audits_take_a_small_share_while_live_work_waits_and_still_go_on(tmp_path: Path) -> None:
    again = Known("audit", table=HEAVY, slow_s=0.02)
    generation = audited(
        tmp_path / "a.json", cheap=Known(slow_s=0.01, max_batch=1), again=again, effort=0.1, reserve=64
    )
    source = LiveMemory(script=[grey(n) for n in LEVELS], repeat=500, fps=400, realtime=True, in_flight=16)
    pipeline = Pipeline([StreamPlan("s", source, "known", generation)], {})
    pipeline.start()
    pipeline.wait(1.5)
    done = pipeline.snapshot().audits[0].audited
    pipeline.stop(1.0)
    assert 3 <= done <= 16, "20 ms in 200"


def test_a_broken_promise_opens_the_cascade_and_what_is_not_seen_is_not_trusted(tmp_path: Path) -> None:
    """Half of what matters slips through. The heavy stage takes 30 ms a picture, and 100 come a second."""
    script = [NOTHING, SLIPS, ALONE, FALSE]
    heavy = Known("heavy", table=HEAVY, slow_s=0.03, max_batch=1)
    generation = audited(tmp_path / "a.json", heavy=heavy, share=1.0, alpha=0.05, reserve=1000, certified=True)
    source = LiveMemory(script=[grey(n) for n in script], repeat=60, fps=100, realtime=True, latency_budget_ms=500)
    snapshot, collector = run(source, generation, stop_after_s=2.6)
    check_ledgers(snapshot.streams[0], collector)
    audit = check_audit(snapshot, collector)
    assert (audit.report.state, audit.report.alarm) == ("broken", "broken")
    assert audit.report.lower > 0.05
    needed = [one.missed for one in records(collector)]
    assert sum(needed) <= 8, "at half missed and p = 1 a handful of misses proves it"
    results = collector.results
    first = next(i for i, one in enumerate(results) if not one.certified)
    assert first <= 60
    before, behind = results[:first], results[first:]
    assert all(one.trusted and one.certified for one in before)
    assert not any(one.certified for one in behind), "its certificate promises what does not hold"
    assert all(one.decided_by == "heavy" for one in behind if one.trusted)
    seen = [one for one in behind if one.decided_by == "heavy"]
    unseen = [one for one in behind if one.decided_by == "known" or not one.trusted]
    assert len(seen) > 20, "as many as it has time for"
    assert len(unseen) > 60, "and the rest is not let through"
    for one in seen:
        level = script[one.window.seq % 4]
        assert one.flagged == (level != NOTHING), "what slipped through is found; a flag of the cheap stage stands"
    shed = snapshot.streams[0].shed
    assert sum(shed.values()) < 0.2 * len(results), shed


def test_a_stream_that_can_wait_is_judged_whole_then(tmp_path: Path) -> None:
    generation = audited(tmp_path / "a.json", alpha=0.05)
    source = Memory(script=[grey(n) for n in (NOTHING, SLIPS, ASKED, ALONE)] * 100, in_flight=4)
    snapshot, collector = run(source, generation)
    assert snapshot.audits[0].report.alarm == "broken"
    behind = collector.results[120:]
    assert all(one.trusted and one.decided_by == "heavy" for one in behind)
    assert [one.flagged for one in behind] == [False, True, True, True] * 70


@pytest.mark.parametrize("gated", [False, True])
def test_the_coin_is_tossed_before_the_gate(tmp_path: Path, gated: bool) -> None:
    generation = audited(tmp_path / "a.json", share=0.5, alpha=0.99)
    source = Memory(script=[grey(n) for n in [NOTHING, SLIPS] * 50])
    _, collector = run(source, generation, gate=Echo() if gated else None)
    by_gate = {one.window.id for one in collector.results if one.decided_by == "echo"}
    assert bool(by_gate) == gated
    seen = {one.window.id for one in records(collector)}
    toss = generation.auditor.toss
    assert seen == {one.window.id for one in collector.outcomes if toss(one.window.id) is not None}
    assert not gated or len(seen & by_gate) > 20


def test_the_share_grows_with_the_score(tmp_path: Path) -> None:
    generation = audited(tmp_path / "a.json", share=0.1, share_at_most=0.9, alpha=0.99, delta=1e-6)
    source = Memory(script=[grey(n) for n in (NOTHING, SLIPS, ALONE, FALSE)] * 200)
    snapshot, collector = run(source, generation)
    by_level: dict[int, list[float]] = {}
    for one in records(collector):
        by_level.setdefault((NOTHING, SLIPS, ALONE, FALSE)[one.window.seq % 4], []).append(one.p)
    assert all(len(set(shares)) == 1 for shares in by_level.values())
    p = {level: shares[0] for level, shares in by_level.items()}
    assert p[ALONE] == p[FALSE] == 0.9
    assert 0.1 < p[NOTHING] == p[SLIPS] < 0.5, "a third of the threshold"
    for level, shares in by_level.items():
        assert len(shares) == pytest.approx(200 * p[level], abs=5 * (200 * p[level] * (1 - p[level])) ** 0.5)
    report = snapshot.audits[0].report
    assert report.lower < 0.5 < report.upper
    assert report.estimate == pytest.approx(0.5, abs=0.12)


def test_a_sink_that_takes_pictures_gets_those_of_audits(tmp_path: Path) -> None:
    sink = Pictures()
    generation = audited(tmp_path / "a.json", alpha=0.99)
    source = Memory(script=[grey(n) for n in (NOTHING, SLIPS, ALONE)] * 4)
    pipeline = Pipeline([StreamPlan("s", source, "known", generation)], {"sink": sink})
    pipeline.start()
    assert pipeline.wait(10)
    pipeline.stop()
    plain = [one for one in sink.collector.pictures if one.audit is None]
    again = [one for one in sink.collector.pictures if one.audit is not None]
    assert len(plain) == len(again) == 12
    for one in again:
        assert one.audit is not None and one.audit.window == one.outcome.window
        assert one.image is not None
    assert sum(one.audit.missed for one in again if one.audit) == 4


def test_a_frozen_feed_is_judged_anew_once_the_cascade_is_not_trusted(tmp_path: Path) -> None:
    """What was carried until then was said by a cascade that misses too much."""
    state = tmp_path / "a.json"
    broken, _ = run(Memory(script=[grey(SLIPS)] * 40), audited(state, name="one@1"))
    assert broken.audits[0].report.alarm == "broken"
    frames = [grey(ALONE)] + [grey(SLIPS)] * 120
    source = LiveMemory(
        script=[x for frame in frames for x in (frame, Pause(0.002))], fps=20, refresh_s=4.0, in_flight=256
    )
    snapshot, collector = run(source, audited(state, name="one@1"), stop_after_s=2.0)
    assert len(collector.results) == 121
    assert snapshot.streams[0].decided_by["frozen"] > 50
    assert all(one.flagged and one.trusted for one in collector.results)
