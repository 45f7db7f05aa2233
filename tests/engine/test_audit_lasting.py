"""What an audit keeps: through faults of its own, a restart, a kill."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from audit_parts import ALONE, ASKED, FALSE, HEAVY, NOTHING, SLIPS, Known, audited, run
from parts import grey
from test_pipeline import check_ledgers

from detectors.calibration.audit_state import StateFile
from pipeline.engine.audit import SAVE_SOON_S
from pipeline.engine.ticket import Lease
from sources.memory import Memory

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("what", ["share", "word", "heard", "unseen", "left", "save"])
def test_an_auditor_that_fails_skips_nothing_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Every third of its answers is an error: nothing leaks, the thread goes on, and what was not counted is unseen."""
    generation = audited(tmp_path / "a.json", again=Known("audit", table=HEAVY, poison=frozenset({FALSE})), alpha=0.99)
    right, calls = getattr(generation.auditor, what), itertools.count()

    def fails(*args: object, **named: object) -> object:
        if args != (None,) and next(calls) % 3 == 0:
            raise RuntimeError("its auditor is broken")
        return right(*args, **named)

    monkeypatch.setattr(generation.auditor, what, fails)
    leases: list[Lease] = []
    monkeypatch.setattr(Lease, "__init__", noting(leases, Lease.__init__))
    source = Memory(script=[grey(n) for n in (NOTHING, SLIPS, ASKED, ALONE, FALSE)] * 12, in_flight=4)
    snapshot, collector = run(source, generation)
    check_ledgers(snapshot.streams[0], collector)
    (audit,) = snapshot.audits
    assert audit.picked == audit.audited + sum(audit.skipped.values()) == 48
    assert [one._holders for one in leases] == [0] * 60, "no picture is kept for good"
    report = audit.report
    assert report.units == 60
    assert report.unseen >= audit.skipped["fault"] >= 12, "those are the ones whose model fails"
    assert (report.unseen > 12) == (what in {"share", "word", "heard"})
    assert not any(thread.name.startswith("audit-") for thread in threading.enumerate())


def noting(where: list[Any], function: Callable[..., None]) -> Callable[..., None]:
    def call(self: Any, *args: object) -> None:
        where.append(self)
        function(self, *args)

    return call


def test_the_alarm_survives_a_restart_and_another_generation_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "deep" / "a.json"
    source = Memory(script=[grey(n) for n in (NOTHING, SLIPS)] * 30)
    snapshot, _ = run(source, audited(state, name="one@1"))
    assert snapshot.audits[0].report.alarm == "broken"
    snapshot, collector = run(source, audited(state, name="one@1"))
    assert all(one.decided_by == "heavy" for one in collector.results)
    assert snapshot.audits[0].picked == 0
    caplog.clear()
    snapshot, _ = run(Memory(script=[grey(ALONE)] * 5), audited(state, name="two@2"))
    assert (snapshot.audits[0].report.alarm, snapshot.audits[0].report.audited) == ("", 5)
    assert f"the audit of two@2 begins anew: what was known of one@1 is in {state}.one@1" in caplog.text
    kept = StateFile(Path(f"{state}.one@1")).read()
    assert kept is not None and kept.alarm == "broken"
    caplog.clear()
    run(Memory(script=[grey(ALONE)] * 5), audited(state, name="two@2", alpha=0.2))
    assert "what was known under other settings is in" in caplog.text, "bets that change after a look prove nothing"


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    source = Memory(script=[grey(n) for n in (NOTHING, SLIPS, ASKED, ALONE)] * 5)
    for times in (1, 2, 3):
        snapshot, _ = run(source, audited(tmp_path / "a.json", name="one@1", alpha=0.9))
        report = snapshot.audits[0].report
        assert (report.units, report.audited, report.missed) == (20 * times, 15 * times, 5 * times)
        assert report.estimate == pytest.approx(1 / 3)
        assert snapshot.audits[0].audited == 15


SCRIPT = """
import sys; sys.path[:0] = ["tests/engine", "."]
from pathlib import Path
from audit_parts import *
from parts import grey
from pipeline.core.records import Audit
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sources.memory import LiveMemory
class Tell(type(AuditSink().collector)):
    def add(self, items):
        for item in items:
            if isinstance(item, Audit) and item.heavy_flagged: print(item.missed, flush=True)
source = LiveMemory(script=[grey(n) for n in (NOTHING, SLIPS, ALONE)], repeat=10**6, fps=300, realtime=True)
generation = audited(Path(sys.argv[1]), name="one@1", alpha=0.99, delta=1e-9, share=0.5)
pipeline = Pipeline([StreamPlan("s", source, "known", generation)], {"sink": AuditSink(collector=Tell())})
pipeline.start()
pipeline.wait(60)
"""


def test_what_was_found_survives_a_kill(tmp_path: Path) -> None:
    state = tmp_path / "a.json"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(state)], cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    try:
        told = [process.stdout.readline().strip() == "True" for _ in range(40)]
        time.sleep(3 * SAVE_SOON_S)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    kept = StateFile(state).read()
    assert kept is not None
    assert kept.tally.missed[0.5] >= sum(told) > 5
    assert kept.tally.caught[0.5] >= len(told) - sum(told) > 5
    snapshot, _ = run(Memory(script=[grey(NOTHING)]), audited(state, name="one@1", alpha=0.99, delta=1e-9, share=0.5))
    assert snapshot.audits[0].report.missed == kept.tally.missed[0.5]
