"""A config with an audit: its mistakes, and a run of real models on a real film."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from calling import Thresher
from prometheus_client import generate_latest

from detectors.calibration.audit_state import AuditState, StateFile
from detectors.rules.scores import Scores
from pipeline.app import summary
from pipeline.app.metrics import registry
from pipeline.app.wiring import _digest
from pipeline.core.snapshot import AuditReport, AuditSnapshot, Latency, Snapshot

KEY = "not-much-of-a-secret"
CONFIG = """\
cascade:
  cheap:
    model: {zoo}/people-ssdlite/model.xml
    name: middle
    output: ssd
    labels: [person]
    view: {{width: 300, height: 300, crop: 0.7}}
    input: {{layout: nhwc, dtype: uint8}}
    runtime: openvino
    precision: f32
    max_batch: 4
    workers: 1
  heavy: {{model: people-ssdlite, name: whole, runtime: openvino, precision: f32, max_batch: 4, workers: 1}}
  rule: {{kind: scores, watch: [person], clear_below: 0.6, confirm: {{person: 0.6}}}}
  audit: {{share: 0.3, key: "${{AUDIT_KEY}}", alpha: 0.9}}
"""


@pytest.fixture
def config(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIT_KEY", KEY)
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG.format(zoo=project / "detectors/zoo"))
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("audit.share=0", "cascade.audit.share: "),
        ("audit.share=1.5", "cascade.audit.share: "),
        ("audit.share_at_most=0.1", "share_at_most must not be below share"),
        ("audit.key=short", "the key should have 8 characters or more"),
        ("audit.key=${NOBODY_SET_THIS}", "the environment variable NOBODY_SET_THIS is not set"),
        ("audit.key=${file:/nowhere/key}", "the file /nowhere/key of ${file:/nowhere/key}: No such file"),
        ("audit.alpha=null", "is needed: there is no certificate that says how much may be missed"),
        ("audit.alpha=1.0", "cascade.audit.alpha: "),
        ("audit.reserve=0", "cascade.audit.reserve: "),
        ("audit.shar=0.1", 'Did you mean "share"'),
    ],
)
def test_a_mistake_names_its_place(
    thresher_here: Thresher, config: Path, people_clip: Path, change: str, said: str
) -> None:
    ran = thresher_here("run", config, people_clip, "--set", f"cascade.{change}")
    assert ran.returncode == 2
    assert said in ran.stderr
    assert KEY not in ran.stderr + ran.stdout


def test_without_a_heavy_stage_there_is_nothing_to_ask(
    thresher_here: Thresher, config: Path, people_clip: Path
) -> None:
    words = ("--set", "cascade.heavy=null", "--set", "cascade.rule={kind: scores, watch: [person], flag_at: 0.5}")
    ran = thresher_here("run", config, people_clip, *words)
    assert ran.returncode == 2
    assert "cascade.audit: there is no heavy stage, and an audit asks how much of its findings is missed" in ran.stderr


@pytest.mark.parametrize("garbage", ["", "{}", "[1", '{"format": 1}', "\x00\xff", "null", '{"format": 2}'])
def test_a_state_that_is_none_is_not_passed_over(
    thresher_here: Thresher, config: Path, people_clip: Path, tmp_path: Path, garbage: str
) -> None:
    """It may hold an alarm."""
    (tmp_path / "a.json").write_text(garbage)
    ran = thresher_here("run", config, people_clip, "--set", "cascade.audit.state=a.json")
    assert ran.returncode == 2
    assert "a.json: this is no state of an audit. Move it away, and the audit begins anew" in ran.stderr
    assert (tmp_path / "a.json").read_text() == garbage


def test_a_state_that_is_somebody_elses(
    thresher_here: Thresher, config: Path, people_clip: Path, tmp_path: Path
) -> None:
    other = StateFile(tmp_path / "a.json")
    other.open()
    ran = thresher_here("run", config, people_clip, "--set", "cascade.audit.state=a.json")
    other.close()
    assert ran.returncode == 2
    assert (
        "a.json: another run, or another cascade, keeps its audit here: give this one a file of its own" in ran.stderr
    )


def test_a_run_tells_what_its_audit_found(thresher: Thresher, config: Path, people_clip: Path, tmp_path: Path) -> None:
    ran = thresher("run", config, people_clip, "--json")
    assert ran.returncode == 0, ran.stderr
    assert "cascade: audited: 30 % of the windows, against at most 90 %" in ran.stderr
    (audit,) = json.loads(ran.stdout)["audits"].values()
    assert audit["alarm"] is None
    assert audit["audited"] > 10
    ledger = audit["ledger"]
    assert ledger["picked"] == ledger["audited"] == audit["audited"]
    low, high = audit["recall"]["bounds"]
    assert low <= audit["recall"]["estimate"] <= high
    assert audit["recall"]["estimate"] < 1, "the middle alone does not show everybody"
    lines = [json.loads(line) for line in (tmp_path / "results/c.jsonl").read_text().splitlines()]
    told = [line for line in lines if "audit" in line]
    assert len(told) == audit["audited"]
    assert sum(line["missed"] for line in told) == audit["misses_found"] > 0
    assert {line["p"] for line in told} == {0.3}
    assert {line["audit"] for line in told} <= {line["id"] for line in lines if "id" in line}
    with closing(sqlite3.connect(tmp_path / "results/c.sqlite")) as connection:
        (row,) = connection.execute("SELECT count(*), sum(missed) FROM audits")
    assert row == (audit["audited"], audit["misses_found"])
    kept = StateFile(tmp_path / "results/audit.json").read()
    assert isinstance(kept, AuditState)
    assert (kept.audited, kept.units) == (audit["audited"], 200)
    assert (kept + kept).tally.misses == pytest.approx(2 * kept.tally.misses)
    again = thresher("run", config, people_clip, "--for", "0.5s")
    assert again.returncode == 0, again.stderr
    assert "audit:" in again.stdout
    told_off = StateFile(tmp_path / "results/audit.json").read()
    assert told_off is not None and told_off.units > 200


class Said:
    """A stage as it describes itself."""

    def __init__(self, **other: str) -> None:
        said = {"model": "m", "sha256": "a", "fingerprint": "b", "runtime": "r", "precision": "f32", "workers": "1"}
        self.said = said | other

    def describe(self) -> dict[str, str]:
        return self.said


def test_a_generation_is_of_just_these_models_in_just_these_forms() -> None:
    """An audit goes on where it was for the same generation alone."""
    rule = Scores(watch=("person",), flag_at=0.5)
    name = _digest((Said(), Said()), rule)  # type: ignore[arg-type]
    assert _digest((Said(), Said(workers="2")), rule) == name  # type: ignore[arg-type]
    for other in ("sha256", "fingerprint", "runtime", "precision"):
        assert _digest((Said(), Said(**{other: "another"})), rule) != name  # type: ignore[arg-type]


REPORT = AuditReport(
    alpha=0.02,
    delta=0.05,
    state="unproven",
    alarm="",
    units=9000,
    reported=900,
    audited=180,
    unseen=4,
    missed=2,
    misses=100.0,
    positives=1000.0,
    estimate=0.1,
    lower=0.01,
    upper=0.3,
    worst=0.25,
    outlook="to confirm it takes a week",
)


def shown(report: AuditReport) -> Snapshot:
    audit = AuditSnapshot("parts", "parts@1", 184, 180, 0, report, {"no room": 4})
    return Snapshot(2.0, True, (), (), (), Latency(), 50.0, 1 << 28, (audit,))


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (REPORT, "unproven: whether at most 2 % is missed is not known yet"),
        (replace(REPORT, state="confirmed", outlook=""), "confirmed: at most 2 % is missed"),
        (replace(REPORT, state="broken", alarm="broken", outlook=""), "BROKEN: more than 2 % is missed"),
        (replace(REPORT, alarm="drift", outlook=""), "DRIFT: it has begun to miss more than 2 %"),
    ],
)
def test_it_is_told_in_words(report: AuditReport, said: str) -> None:
    lines = summary.lines(summary.document(shown(report), []))
    (first,) = (line for line in lines if line.startswith("audit:"))
    assert said in first
    told = lines[lines.index(first) + 1]
    assert "recall 90.00% (surely 70.00% to 99.00%; 75.00% if all that was not seen was missed)" in told
    assert "180 audited, 2 misses found, 4 could not be looked at" in told
    assert (lines[lines.index(first) + 2 :][:1] == ["             to confirm it takes a week"]) == bool(report.outlook)


def test_the_metrics_of_an_audit() -> None:
    text = generate_latest(registry(lambda: shown(replace(REPORT, state="broken", alarm="broken"))))
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stderr) == (0, b""), checked.stdout + checked.stderr
    words = text.decode()
    labels = 'cascade="parts",generation="parts@1"'
    assert f'thresher_audit_recall_ratio{{{labels},kind="lower"}} 0.7' in words
    assert f'thresher_audit_recall_ratio{{{labels},kind="worst_case"}} 0.75' in words
    assert f'thresher_audit_state{{{labels},state="broken"}} 1.0' in words
    assert f'thresher_audit_alarm{{{labels},reason="drift"}} 0.0' in words
    assert f'thresher_audit_picked_windows_total{{{labels},fate="no room"}} 4.0' in words.replace(
        'cascade="parts",fate="no room",generation="parts@1"', f'{labels},fate="no room"'
    )
