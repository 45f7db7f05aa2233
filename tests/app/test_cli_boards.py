"""The shipped inspector of boards from the command line: proved again, measured, and run on its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from calling import Thresher

from detectors.evaluation.judged import Subject
from detectors.evaluation.ladder import ladder
from detectors.evaluation.scores import load_scores
from pipeline.app.demo.parts import BOARDS
from pipeline.app.evaluation.rules import rule_with

pytestmark = pytest.mark.slow
DATA = str(BOARDS)


def test_it_is_proved_on_the_parts_of_a_labelled_data_set(thresher: Thresher, tmp_path: Path) -> None:
    asked = ("--max-miss", "0.1", "--delta", "0.05", "--match-iou", "0.33", "--out", "mine.yaml", "--json")
    ran = thresher("calibrate", "pcb", "--data", DATA, *asked)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["certified"]
    assert document["data"]["unit"].startswith("a part: of each board one")
    proof = document["certificate"]["proof"]
    assert proof["positives"] > 30
    assert proof["truth"]["positives"] > 30
    assert (tmp_path / "mine.curve.png").stat().st_size > 1000
    assert document["files"]["scores"] == "mine.scores.jsonl.gz"
    header, units = load_scores(tmp_path / "mine.scores.jsonl.gz")
    assert (header.ladder_only, header.truth, len(units)) == (True, True, document["data"]["units"])
    rule = rule_with(dict(header.rule), (), header.cheap, header.heavy)
    subject = Subject(rule, header.cheap, header.heavy, header.labels, header.tile)
    _, rungs = ladder(subject, units, truth=True, delta=0.05, match_iou=0.33)
    for row, rung in zip(document["curve"], rungs, strict=True):  # the slider says what calibration counted
        said = rung.threshold, rung.missed_units, rung.truly_missed_units, rung.missed_at_most
        assert said == (row["threshold"], row["misses"], row["true_misses"], row["provable"])
        assert rung.escalated == pytest.approx(row["heavy_units"])
        assert rung.heavy_time == pytest.approx(row["heavy_time"])
    refused = thresher("replay", "mine.scores.jsonl.gz")
    assert refused.returncode == 2
    assert "without the labels of its data" in refused.stderr


def test_too_few_bad_parts_are_counted(thresher: Thresher, tmp_path: Path) -> None:
    ran = thresher("calibrate", "pcb", "--data", DATA, "--max-miss", "0.001")
    assert ran.returncode == 2
    assert "more positives are missing" in ran.stderr
    assert list(tmp_path.iterdir()) == [], "nobody may look at a miss"


def test_the_heavy_stage_is_measured_by_the_protocol(thresher: Thresher) -> None:
    ran = thresher("eval", "pcb-resnet", "--data", DATA, "--limit", "25", "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert (document["model"], document["n"]) == ("pcb-resnet", 25)
    assert document["metrics"]["map"] > 0.9
    assert document["metrics"]["f"] > 0.85


def test_parts_with_one_defect_are_told_apart_from_others(thresher: Thresher) -> None:
    ran = thresher("eval", "pcb", "--data", DATA, "--limit", "25", "--json")
    assert ran.returncode == 0, ran.stderr
    metrics = json.loads(ran.stdout)["metrics"]
    assert metrics["recall"] > 0.9
    assert metrics["recall_single"] > 0.8
    assert metrics["false_reject"] <= 0.16  # 0.10 of all fifty (README)


def test_the_line_of_the_config_runs(thresher: Thresher, tmp_path: Path, project: Path) -> None:
    (tmp_path / "pipeline").symlink_to(project / "pipeline")
    config = str(project / "configs" / "pcb.yaml")
    ran = thresher("run", config, "--set", "sources.line.repeat=1", "--set", "sources.line.fps=10", "--json")
    assert ran.returncode == 0, ran.stderr
    outcomes = [json.loads(line) for line in (tmp_path / "results" / "line.jsonl").read_text().splitlines()]
    verdicts = [one["verdict"] for one in outcomes if "outcome" in one]
    assert len(verdicts) == 60
    assert set(verdicts) <= {"accept", "reject", "unknown"}
    assert all(one["certified"] for one in outcomes if one.get("outcome") == "result")


def test_a_certificate_for_other_models_does_not_start(thresher: Thresher, tmp_path: Path) -> None:
    made = thresher("calibrate", "pcb", "--data", DATA, "--max-miss", "0.2", "--against", "truth", "--out", "b.yaml")
    assert made.returncode == 0, made.stderr
    assert "misses at most 20 % of what is truly there" in made.stdout
    assert "against: truth" in (tmp_path / "b.yaml").read_text()
    (tmp_path / "c.yaml").write_text(
        "sources: {line: {kind: folder, path: .}}\ncascade:\n  base: moderation\n  certificate: b.yaml\n"
    )
    ran = thresher("validate", "c.yaml")
    assert ran.returncode == 2
    assert "is not for this cascade" in ran.stderr
