"""What an audit makes of a heavy model's word, and how likely it is to ask for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.calibration.live import AuditSettings, LiveAudit
from detectors.rules.boxes import Boxes
from detectors.rules.scores import Scores
from pipeline.core.contracts import Clear, Flag, Stage, Word
from pipeline.core.errors import InputError
from pipeline.core.records import Box, Detection, Findings, Result, Shed, ShedReason, Window

SCORES = Scores(watch=("cat",), clear_below=0.4, flag_at=0.8, confirm={"lion": 0.5})
BOXES = Boxes(report={"cat": 0.5}, escalate={"cat": 0.2}, confirm={"lion": 0.5})
WINDOW = Window("s", "e", 1, 0, 1, 0, 0)
HERE, THERE = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 60.0, 60.0)


def findings(label: str, *found: tuple[float, Box | None]) -> Findings:
    boxes = np.array([box for _, box in found if box], np.float32).reshape(-1, 4)
    scores = np.array([score for score, _ in found], np.float32)
    return Findings((label,), scores, np.zeros(len(found), np.int64), boxes if len(boxes) == len(found) else None)


def audit(tmp_path: Path, rule: Any, *, iou: float = 0.5, **settings: Any) -> LiveAudit:
    chosen = {"share": 0.1, "alpha": 0.1, "key": "a key for tests", "state": str(tmp_path / "a.json")} | settings
    plan = AuditSettings.model_validate(chosen)
    stage: Stage = None  # type: ignore[assignment]  # it is the engine's to call
    return LiveAudit(plan, "g@1", rule, stage, plan.plan_for(None), match_iou=iou)


def reported(*detections: Detection) -> Result:
    return Result(WINDOW, 1, "heavy", "g@1", detections, flagged=bool(detections))


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (reported(Detection("lion", 0.9, HERE), Detection("lion", 0.9, THERE)), True),
        (reported(Detection("lion", 0.9, HERE)), False),  # one of the two is missed, and so is the unit
        (reported(Detection("cat", 0.9, HERE), Detection("cat", 0.9, THERE)), False),
        (reported(), False),
        (Shed(WINDOW, 1, ShedReason.OVERLOAD), False),
    ],
)
def test_boxes_have_a_match_of_their_own_or_the_unit_is_missed(tmp_path: Path, outcome: Any, said: bool) -> None:
    heavy = findings("lion", (0.9, HERE), (0.8, THERE), (0.3, (80.0, 80.0, 90.0, 90.0)))
    word = audit(tmp_path, BOXES).word(heavy, outcome)
    assert [one.box for one in word.detections] == [HERE, THERE]
    assert word.reported is said


def test_where_nothing_is_flagged_it_is_said_whether_anything_was_reported(tmp_path: Path) -> None:
    nothing = findings("lion", (0.3, None))
    judge = audit(tmp_path, SCORES)
    assert judge.word(nothing, reported(Detection("lion", 0.9))).reported is True
    assert judge.word(nothing, reported()).reported is False
    assert judge.word(nothing, reported()).detections == ()


@pytest.mark.parametrize(
    ("rule", "cheap", "heavy", "verdict"),
    [
        (SCORES, 0.1, 0.9, Flag),
        (SCORES, 0.1, 0.1, Clear),
        (SCORES, 0.9, 0.1, Flag),  # that the cheap stage reports a thing by itself is nothing that was missed
        (BOXES, 0.1, 0.9, Flag),
        (BOXES, 0.1, 0.1, Clear),
        (BOXES, 0.9, 0.1, Flag),
    ],
)
def test_the_verdict_on_a_whole_unit(tmp_path: Path, rule: Any, cheap: float, heavy: float, verdict: type) -> None:
    box = HERE if rule is BOXES else None
    said = audit(tmp_path, rule).whole(findings("cat", (cheap, box)), findings("lion", (heavy, box)))
    assert type(said) is verdict


@pytest.mark.parametrize("rule", [SCORES, BOXES])
def test_the_share_rises_with_the_score_up_to_the_threshold(tmp_path: Path, rule: Any) -> None:
    grows = audit(tmp_path, rule, share_at_most=0.8)
    box = HERE if rule is BOXES else None
    least = 0.4 if rule is SCORES else 0.2
    shares = [grows.share(findings("cat", (least * part, box))) for part in (0, 0.1, 0.2, 0.5, 0.7, 0.9, 1, 2)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.1, 0.8)
    assert len(set(shares)) >= 5
    assert grows.share(None) == 0.1, "a window that the cheap stage never saw"
    assert audit(tmp_path, rule).share(findings("cat", (0.3, box))) == 0.1
    for unit in map(str, range(200)):
        toss = grows.toss(unit)
        assert toss is None or 0 <= toss < 0.8


def test_words_that_were_due_when_the_program_died_are_unseen(tmp_path: Path) -> None:
    died = audit(tmp_path, SCORES)
    died.open()
    died.waiting({0.1: 3, 1.0: 2})
    assert (died.report(0).unseen, died.report(0).worst) == (0, 1.0)
    died.save()
    died.close()
    restarted = audit(tmp_path, SCORES)
    restarted.open()
    restarted.waiting({})
    assert (restarted.report(0).unseen, restarted.report(0).worst) == (5, 1.0)
    restarted.close()


def saved(tmp_path: Path) -> Path:
    first = audit(tmp_path, SCORES)
    first.open()
    first.left(10, 2)
    first.heard(Word((Detection("lion", 0.9),), True), 0.1, audited=True)
    first.save()
    first.close()
    return tmp_path / "a.json"


def test_another_meaning_of_a_miss_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = saved(tmp_path)
    same, other = audit(tmp_path, SCORES), audit(tmp_path, SCORES, iou=0.3)
    same.open()
    assert same.report(0).units == 10
    same.close()
    other.open()
    assert other.report(0).units == 0
    assert f"what was known under other settings is in {state}.g@1" in caplog.text
    other.close()


def test_a_file_of_old_does_not_say_what_a_miss_was(tmp_path: Path) -> None:
    state = saved(tmp_path)
    document = json.loads(state.read_text())
    del document["plan"]["match_iou"], document["due"]
    state.write_text(json.dumps(document))
    later = audit(tmp_path, SCORES)
    later.open()
    later.close()
    assert later.report(0).units == 0
    assert Path(f"{state}.g@1").exists()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("drift.log_bets", [0.0]),
        ("drift.log_bets", [float("nan")] * 7),
        ("drift.log_bets", [float("inf")] * 7),
        ("drift.log_bets", [None] * 7),
        ("drift.epochs", 0),
        ("drift.epochs", -1),
        ("drift.epochs", float("inf")),
        ("drift.positives", 1e9),
        ("drift.positives", float("nan")),
        ("plan.p_min", 0.2),
        ("plan.p_min", 0.0),
        ("plan.alpha", 2),
        ("plan.patience", 0.5),
        ("plan.patience", float("nan")),
        ("plan.match_iou", 1.5),
        ("tally.missed", [[0.01, 3]]),
        ("tally.missed", [[0.1, -3]]),
        ("tally.caught", [[0.1, 10**300]]),
        ("due", [[0.01, 3]]),
        ("due", 3),
        ("units", 1),
        ("audited", -1),
        ("generation", 7),
    ],
)
def test_a_state_that_was_changed_is_refused(tmp_path: Path, place: str, value: object) -> None:
    state = saved(tmp_path)
    document = json.loads(state.read_text())
    where = document
    *above, last = place.split(".")
    for name in above:
        where = where[name]
    assert last in where
    where[last] = value
    state.write_text(json.dumps(document))
    with pytest.raises(InputError, match="this is no state of an audit"):
        audit(tmp_path, SCORES)


def test_a_certificate_says_what_it_is_held_against() -> None:
    plain = {"share": 0.1, "key": "a key for tests"}
    assert AuditSettings.model_validate(plain).plan_for((0.02, 0.1)).alpha == 0.02
    assert AuditSettings.model_validate(plain | {"alpha": 0.02}).plan_for((0.02, 0.1)).delta == 0.1
    with pytest.raises(InputError, match=r"is 0\.03 here, and the certificate promises 0\.02"):
        AuditSettings.model_validate(plain | {"alpha": 0.03}).plan_for((0.02, 0.1))
    with pytest.raises(InputError, match="is needed"):
        AuditSettings.model_validate(plain).plan_for(None)
