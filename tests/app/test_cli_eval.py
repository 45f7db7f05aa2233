"""`thresher eval` with real models on boards made here, and `thresher replay` of what it stored."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from board_models import COPPER, OPEN, board, boards, judge, save_grey, seeker
from calling import COMMAND, Called, Thresher

from pipeline.app.cli import main

FORM = "runtime: openvino, precision: f32, max_batch: 4, workers: 1"
CONFIG = f"""\
cascade:
  cheap: {{model: ./cheap, {FORM}}}
  heavy: {{model: ./heavy, {FORM}}}
  rule:
    kind: boxes
    report: {{suspicious: 1.0}}
    flag: []
    escalate: {{suspicious: 0.3}}
    confirm: {{open: 0.3, copper: 0.3}}
"""
ONE = f"""\
cascade:
  cheap: {{model: ./boxes, {FORM}}}
"""
TIMES = {"heavy_time", "cascade_time"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, configs and boards: 12, of which each has one defect, or up to eight."""
    folder = tmp_path_factory.mktemp("home")
    boards(folder / "data")
    seeker(folder / "cheap", ("suspicious",))
    judge(folder / "heavy")
    seeker(folder / "boxes", measured={"threshold": 0.5})
    (folder / "c.yaml").write_text(CONFIG)
    (folder / "one.yaml").write_text(ONE)
    return folder


def called(home: Path, *words: object) -> Called:
    return subprocess.run([*COMMAND, *map(str, words)], cwd=home, capture_output=True, text=True, timeout=120)


def evaluated(home: Path, *words: object) -> dict[str, Any]:
    """In this process, which is quicker."""
    said, handlers, level = io.StringIO(), logging.root.handlers[:], logging.root.level
    try:
        with contextlib.chdir(home), contextlib.redirect_stdout(said):
            status = main(["eval", *map(str, words), "--json"])
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    assert status == 0
    document: dict[str, Any] = json.loads(said.getvalue())
    assert list(document) == ["model", "version", "data", "n", "metrics"]
    return document


@pytest.fixture(scope="module")
def cascade(home: Path) -> dict[str, Any]:
    return evaluated(home, "c.yaml", "--data", "data", "--split", "made for this test", "--out", "cascade")


@pytest.fixture(scope="module")
def model(home: Path) -> dict[str, Any]:
    return evaluated(home, "one.yaml", "--data", "data", "--out", "model")


def replayed(here: Thresher, home: Path, *words: object) -> dict[str, Any]:
    ran = here("replay", home / "cascade" / "scores.jsonl.gz", *words, "--json")
    assert ran.returncode == 0, ran.stderr
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


def told(ran: Called) -> str:
    """What a person is told of a mistake of theirs."""
    assert ran.returncode == 2, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr + ran.stdout
    return " ".join(ran.stderr.split())


class TestModel:
    def test_boxes_by_the_protocol_of_the_data(self, model: dict[str, Any], home: Path) -> None:
        metrics = model["metrics"]
        assert (model["model"], model["version"], model["n"]) == ("boxes", "3", 12)
        assert (metrics["parts_are"], metrics["threshold"]) == ("as-is", 0.5)
        assert "measured.threshold" in metrics["threshold_from"]
        true = {OPEN: 0, COPPER: 0}
        large = dict(true)  # so large that half of the cell shows it, and the cell's box fits
        for file in (home / "data").glob("*/00_not/*.txt"):
            for x1, _, x2, _, kind in (map(int, line.split()) for line in file.read_text().splitlines()):
                true[kind] += 1
                large[kind] += x2 - x1 >= 6
        classes = metrics["classes"]
        assert {label: row["true"] for label, row in classes.items()} == {"open": true[OPEN], "copper": true[COPPER]}
        assert classes["open"]["recall"] == pytest.approx(large[OPEN] / true[OPEN])
        assert classes["copper"]["recall"] == pytest.approx(large[COPPER] / true[COPPER])
        assert metrics["recall"] == pytest.approx(sum(large.values()) / sum(true.values()))
        assert metrics["precision"] == 1.0
        assert metrics["f_best"] >= metrics["f"]
        assert 0 < metrics["coco_map"] < metrics["coco_map50"] <= 1
        assert "every unit is bad" in metrics["remarks"][0] and "auroc" not in metrics

    def test_the_files(self, model: dict[str, Any], home: Path) -> None:
        files = model["metrics"]["files"]
        assert set(files) == {"precision_recall", "precision_recall_picture", "scores"}
        curves = json.loads((home / files["precision_recall"]).read_text())["curves"]
        assert set(curves) == {"all boxes", "open", "copper"}
        assert (home / files["precision_recall_picture"]).read_bytes().startswith(b"\x89PNG")
        assert json.loads((home / "model" / "eval.json").read_text()) == model

    def test_honest_parts_tell_good_from_bad_as_well(self, home: Path) -> None:
        metrics = evaluated(home, "one.yaml", "--data", "data", "--parts", "honest", "--out", "honest")["metrics"]
        assert metrics["auroc"] == 1.0
        assert metrics["parts"]["false_reject"] == 0.0
        assert metrics["recall"] is not None and metrics["map"] is not None

    def test_a_folder_and_a_config_are_the_same_model(self, home: Path, model: dict[str, Any]) -> None:
        form = [("--set", f"cascade.cheap.{word}") for word in ("runtime=openvino", "precision=f32", "max_batch=4")]
        words = [word for pair in form for word in pair]
        for subject in ("boxes", "./boxes", "boxes/manifest.yaml"):
            other = evaluated(home, subject, "--data", "data", *words, "--set", "cascade.cheap.workers=1", "--out", "o")
            ours = {k: v for k, v in model["metrics"].items() if k != "files"}
            assert {k: v for k, v in other["metrics"].items() if k != "files"} == ours

    def test_a_bare_file_with_a_config(self, home: Path) -> None:
        (home / "bare.yaml").write_text(
            "cascade:\n  cheap: {model: boxes/model.onnx, output: heatmap, labels: [open, copper], input: unit,"
            f" {FORM}}}\n  rule: {{kind: boxes, report: {{open: 0.5, copper: 0.5}}}}\n"
        )
        document = evaluated(home, "bare.yaml", "--data", "data", "--out", "bare")
        assert document["model"] == "model"
        assert document["metrics"]["threshold_from"] == "the rule of the cascade"
        assert document["metrics"]["precision"] == 1.0

    def test_without_cocos_code_two_figures_are_absent(self, home: Path) -> None:
        """The package is barred for one process, as if it were not there."""
        code = (
            "import sys; sys.modules['pycocotools'] = None; from pipeline.app.cli import main;"
            "sys.exit(main(['eval', 'one.yaml', '--data', 'data', '--out', 'absent', '--json']))"
        )
        ran = subprocess.run([COMMAND[0], "-c", code], cwd=home, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        metrics = json.loads(ran.stdout)["metrics"]
        assert "coco_map" not in metrics and "map" in metrics
        assert any("pip install 'thresher[eval]'" in remark for remark in metrics["remarks"])


class TestCascade:
    def test_parts_by_their_defects(self, cascade: dict[str, Any], home: Path) -> None:
        metrics = cascade["metrics"]
        assert cascade["model"] == "c" and cascade["version"]
        assert metrics["parts_are"] == "honest"
        rows = metrics["recall_by_defects"]
        assert sum(row["parts"] for row in rows.values()) + 12 == cascade["n"]
        assert rows["1"]["parts"] == 14  # one of each board, and what is left of those with two
        assert metrics["recall_single"] == rows["1"]["recall"]
        assert 0 < metrics["recall"] < 1 and metrics["false_reject"] == 0.0
        assert metrics["found"] == sum(row["found"] for row in rows.values())

    def test_cost_and_the_heavy_stage(self, cascade: dict[str, Any]) -> None:
        metrics = cascade["metrics"]
        assert metrics["escalated"] + metrics["settled_cheap"] == pytest.approx(1)
        assert 0 < metrics["heavy_pixels"] < 0.2 and metrics["heavy_time"] > 0
        assert metrics["against_heavy"]["positives"] == metrics["heavy_on_the_whole"]["found"]
        assert metrics["boxes"]["precision"] == 1.0

    def test_honesty(self, cascade: dict[str, Any]) -> None:
        metrics = cascade["metrics"]
        assert metrics["template_auc"] == pytest.approx(0.5, abs=0.2)
        assert metrics["template_auc_heavy"] == pytest.approx(0.5, abs=0.2)
        assert metrics["histogram_auc_raw"] == 1.0
        assert metrics["histogram_auc"] == pytest.approx(0.5, abs=0.2)

    def test_the_curve(self, cascade: dict[str, Any], home: Path) -> None:
        files = cascade["metrics"]["files"]
        document = json.loads((home / files["cost_recall"]).read_text())
        escalated = [row["escalated"] for row in document["curve"]]
        assert escalated == sorted(escalated, reverse=True)
        assert document["point"]["recall"] == cascade["metrics"]["recall"]
        assert (home / files["cost_recall_picture"]).read_bytes().startswith(b"\x89PNG")

    def test_for_people(self, home: Path, cascade: dict[str, Any]) -> None:
        ran = called(home, "eval", "c.yaml", "--data", "data", "--parts", "as-is", "--limit", "5")
        assert ran.returncode == 0, ran.stderr
        assert "5 units (as-is)" in ran.stdout and "recall by defects" in ran.stdout
        assert (home / "results" / "eval-c" / "scores.jsonl.gz").exists()
        assert "thresher replay results/eval-c/scores.jsonl.gz" in ran.stdout


class TestReplay:
    def test_the_stored_rule_says_what_eval_said(
        self, thresher_here: Thresher, home: Path, cascade: dict[str, Any]
    ) -> None:
        document = replayed(thresher_here, home)
        assert document["stored"] == document["replayed"]
        same(document["stored"]["metrics"], cascade["metrics"], set())

    @pytest.mark.parametrize(
        "changes",
        [
            ("rule.escalate.suspicious=0.55",),
            ("rule.escalate.suspicious=0.05", "rule.confirm.open=0.2"),
            ("rule.confirm.copper=0.9",),
            ("rule.region=whole",),
            ("rule.max_regions=2",),
        ],
    )
    def test_another_rule_says_what_a_real_run_with_it_says(
        self, thresher_here: Thresher, home: Path, cascade: dict[str, Any], changes: tuple[str, ...]
    ) -> None:
        words = [word for change in changes for word in ("--set", change)]
        real = [word.replace("rule.", "cascade.rule.") for word in words]
        document = replayed(thresher_here, home, *words)
        fresh = evaluated(home, "c.yaml", "--data", "data", "--out", "fresh", *real)
        same(document["replayed"]["metrics"], fresh["metrics"], TIMES)
        assert document["replayed"]["metrics"] != document["stored"]["metrics"]

    def test_it_takes_no_model_and_no_picture(self, cascade: dict[str, Any], home: Path, tmp_path: Path) -> None:
        (tmp_path / "s.gz").write_bytes((home / "cascade" / "scores.jsonl.gz").read_bytes())
        code = (
            "import sys; from pipeline.app.cli import main; assert main(['replay', 's.gz']) == 0;"
            "print([name for name in ('openvino', 'torch', 'cv2', 'onnxruntime') if name in sys.modules])"
        )
        ran = subprocess.run([COMMAND[0], "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.splitlines()[-1] == "[]"
        assert "stored" in ran.stdout and "missed of heavy" in ran.stdout

    def test_of_a_model_by_itself(self, thresher_here: Thresher, home: Path, model: dict[str, Any]) -> None:
        ran = thresher_here("replay", home / "model" / "scores.jsonl.gz", "--set", "rule.report.open=0.1", "--json")
        document = json.loads(ran.stdout)
        more, less = document["replayed"]["metrics"], document["stored"]["metrics"]
        assert more["map"] == less["map"] == model["metrics"]["map"]
        assert more["precision"] < less["precision"] and more["classes"]["copper"] == less["classes"]["copper"]

    def test_places_that_were_not_stored(self, thresher_here: Thresher, home: Path, cascade: dict[str, Any]) -> None:
        ran = thresher_here("replay", home / "cascade" / "scores.jsonl.gz", "--set", "rule.grow=1.0")
        said = told(ran)
        assert "units are unknown under this rule" in said and "nothing is guessed" in said

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ("cascade.rule.grow=1", "only the rule can be replayed"),
            ("rule.escalat.suspicious=0.3", 'Did you mean "escalate"'),
            ("rule.escalate.suspcious=0.3", 'Did you mean "suspicious"'),
            ("rule.escalate.suspicious=2", "--set rule.escalate.suspicious"),
            ("rule.escalate.suspicious", "should be KEY=VALUE"),
            ("rule.kind=other", "there is no rule of kind"),
            ("rule=3", "only the rule can be replayed"),
            ("rule.escalate=null", "escalate"),
        ],
    )
    def test_a_rule_that_is_none(
        self, thresher_here: Thresher, home: Path, cascade: dict[str, Any], change: str, words: str
    ) -> None:
        assert words in told(thresher_here("replay", home / "cascade" / "scores.jsonl.gz", "--set", change))

    def test_a_file_that_is_none(
        self, thresher_here: Thresher, home: Path, cascade: dict[str, Any], tmp_path: Path
    ) -> None:
        assert "cannot be read" in told(thresher_here("replay", "gone.gz"))
        whole = (home / "cascade" / "scores.jsonl.gz").read_bytes()
        (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
        assert "cut off" in told(thresher_here("replay", "cut.gz"))
        (tmp_path / "none.gz").write_bytes(b"none of it")
        assert "no file of scores" in told(thresher_here("replay", "none.gz"))
        lines = gzip.decompress(whole).splitlines()
        header = json.loads(lines[0])
        header["rule"]["kind"] = "boxs"
        (tmp_path / "rule.gz").write_bytes(gzip.compress(b"\n".join([json.dumps(header).encode(), *lines[1:]])))
        assert "there is no rule of kind" in told(thresher_here("replay", "rule.gz"))


class TestWrongInput:
    def test_no_data(self, thresher_here: Thresher, home: Path, tmp_path: Path) -> None:
        assert "no such folder" in told(thresher_here("eval", home / "one.yaml", "--data", "gone"))
        (tmp_path / "file").write_text("")
        assert "a data set is a folder" in told(thresher_here("eval", home / "one.yaml", "--data", "file"))
        (tmp_path / "empty").mkdir()
        assert "empty" in told(thresher_here("eval", home / "one.yaml", "--data", "empty"))
        assert "--data" in told(thresher_here("eval", home / "one.yaml"))

    def test_a_model_that_is_none(self, thresher_here: Thresher, home: Path, tmp_path: Path) -> None:
        data = ("--data", home / "data")
        assert 'Did you mean "people"' in told(thresher_here("eval", "peple", *data))
        assert "gone.onnx" in told(thresher_here("eval", "./gone.onnx", *data))
        assert "gone.yaml" in told(thresher_here("eval", "gone.yaml", *data))
        (tmp_path / "hollow").mkdir()
        assert "manifest.yaml" in told(thresher_here("eval", "hollow", *data))

    def test_labels_that_do_not_fit(self, thresher_here: Thresher, home: Path, tmp_path: Path) -> None:
        seeker(tmp_path / "other", ("open", "hole"))
        (tmp_path / "c.yaml").write_text(f"cascade: {{cheap: {{model: ./other, {FORM}}}}}")
        said = told(thresher_here("eval", "c.yaml", "--data", home / "data"))
        assert "the model knows open, hole; the data know open, short, mousebite, spur, copper, pin-hole" in said

    def test_a_cascade_of_which_nothing_fits(self, thresher_here: Thresher, home: Path, tmp_path: Path) -> None:
        seeker(tmp_path / "cheap", ("hole",))
        judge(tmp_path / "heavy", labels=["hole", "dust"])
        config = CONFIG.replace("suspicious", "hole").replace("{open: 0.3, copper: 0.3}", "{dust: 0.3}")
        (tmp_path / "c.yaml").write_text(config)
        said = told(thresher_here("eval", "c.yaml", "--data", home / "data"))
        assert "the model knows dust; the data know open, short" in said

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--group", "group2"), 'Did you mean "group'),
            (("--only", "gone.txt"), "--only: gone.txt"),
            (("--limit", "0"), "--limit"),
            (("--parts", "whole"), "--parts"),
            (("--out", "taken"), "--out"),
            (("--cascade", "other"), "other"),
        ],
    )
    def test_options(self, thresher_here: Thresher, home: Path, tmp_path: Path, words: Any, said: str) -> None:
        (tmp_path / "taken").write_text("")
        assert said in told(thresher_here("eval", home / "one.yaml", "--data", home / "data", *words))

    def test_pictures_that_cannot_be_read_are_named(self, home: Path, tmp_path: Path) -> None:
        boards(tmp_path / "data", 4)
        cut(tmp_path / "data/group1/00/b01_test.png")
        (tmp_path / "data/group0/00_not/b02.txt").write_text("8 8 16 16 9\n8 8 16 16 1\n")
        metrics = evaluated(home, "one.yaml", "--data", tmp_path / "data", "--out", tmp_path / "o")["metrics"]
        assert metrics["skipped"] == {"labels": 1, "unreadable": 1}
        assert any("b01_test.png cannot be decoded" in name for name in metrics["skipped_names"])
        assert any("class 9" in name for name in metrics["skipped_names"])
        ran = called(home, "eval", "one.yaml", "--data", tmp_path / "data", "--out", tmp_path / "o")
        assert "left out: 1 labels, 1 unreadable" in ran.stdout and "b01_test.png" in ran.stdout

    def test_none_can_be_read(self, thresher_here: Thresher, home: Path, tmp_path: Path) -> None:
        board(tmp_path / "data", "a", "g", OPEN, [(1, 1, 8)])
        cut(tmp_path / "data/g/00/a_test.png")
        said = told(thresher_here("eval", home / "one.yaml", "--data", "data"))
        assert "holds no picture that can be decoded" in said and "a_test.png" in said

    def test_a_reference_of_another_size(self, home: Path, tmp_path: Path) -> None:
        boards(tmp_path / "data", 3)
        save_grey(tmp_path / "data/group0/00/b00_temp.png", np.zeros((32, 32), np.uint8))
        document = evaluated(home, "c.yaml", "--data", tmp_path / "data", "--out", tmp_path / "o")
        assert document["metrics"]["skipped"] == {"unreadable": 2}  # a good part and one with its defect
        assert "differ in size" in document["metrics"]["skipped_names"][0]
        (told_of,) = (one for one in document["metrics"]["remarks"] if "honesty" in one)
        assert told_of.startswith("1 board could not be read, and honesty is of the others: b00: ")


def cut(picture: Path) -> None:
    """Its header is sound, and there is no more."""
    picture.write_bytes(picture.read_bytes()[:60])


def test_only_some_of_the_data(home: Path, tmp_path: Path) -> None:
    group = evaluated(home, "one.yaml", "--data", "data", "--group", "group1", "--out", tmp_path / "o")
    assert group["n"] == 6
    (tmp_path / "some.txt").write_text("b03\ngroup0/00/b04.png group0/00_not/b04.txt\n\n")
    only = evaluated(home, "one.yaml", "--data", "data", "--only", tmp_path / "some.txt", "--out", tmp_path / "o")
    assert only["n"] == 2
    assert evaluated(home, "one.yaml", "--data", "data", "--limit", "5", "--out", tmp_path / "o")["n"] == 5


def same(one: dict[str, Any], other: dict[str, Any], but: set[str]) -> None:
    """Whatever a replay says, a run says, too; measured times are never twice the same."""
    for key, value in one.items():
        if isinstance(value, dict):
            same(value, other[key], but)
        elif key not in but and isinstance(value, float):
            assert math.isclose(value, other[key], rel_tol=1e-6), key
        elif key not in but:
            assert value == other[key], key
