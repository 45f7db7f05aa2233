"""The certificate's file, and when it is not for the cascade that names it."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_calibrate import Channel

from detectors.calibration.certificate import (
    Certificate,
    CertifiedRule,
    Data,
    Proof,
    Saving,
    StageIdentity,
    load_certificate,
)
from detectors.rules.boxes import Boxes
from detectors.rules.scores import Scores
from pipeline.core.errors import InputError
from pipeline.core.payloads import ViewSpec

RULE = Scores(watch=("odd",), clear_below=0.15, confirm={"bad": 0.5})


class Described(Channel):
    def __init__(self, name: str, label: str, channel: int, **said: str) -> None:
        super().__init__(name, label, channel)
        self._said = {"model": name, "version": "1", "sha256": "a" * 64, "fingerprint": "b" * 64} | said

    def describe(self) -> dict[str, object]:
        return {"runtime": "openvino", "precision": "bf16", **self._said}


CHEAP, HEAVY = Described("mobilenet", "odd", 0), Described("resnet", "bad", 1, fingerprint="c" * 64)


def certificate() -> Certificate:
    return Certificate(
        created="2026-01-31T12:00:00+00:00",
        program="thresher 0.1.0",
        cheap=StageIdentity.of(CHEAP),
        heavy=StageIdentity.of(HEAVY),
        rule=CertifiedRule.of(RULE, "clear_below"),
        data=Data(source="parts", split="held out", unit="a picture", units=900, digest="d" * 64),
        proof=Proof(
            test="exact", alpha=0.02, delta=0.05, positives=400, misses=1, negatives=500, false_alarms=0, evidence=1e-7
        ),
        saving=Saving(units=0.8, heavy_time=-0.2),
    )


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    certificate().save(tmp_path / "c.yaml")
    found = load_certificate(tmp_path / "c.yaml")
    assert found == certificate()
    assert found.differences(CHEAP, HEAVY, RULE) == []
    assert found.promise() == "misses at most 2 % of what resnet would flag (δ = 5 %)"


@pytest.mark.parametrize(("before", "after"), [("alpha: 0.02", "alpha: 0.01"), ("misses: 1", "misses: 0")])
def test_a_changed_one_proves_nothing(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "c.yaml"
    certificate().save(path)
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(InputError, match="changed after it was made"):
        load_certificate(path)


@pytest.mark.parametrize("text", ["", "a: 1", "- 1", "seal: 1\nformat: 1", ": :", "\0"])
def test_what_is_no_certificate(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=r"no certificate|changed"):
        load_certificate(tmp_path / "c.yaml")


def test_one_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        certificate().save(tmp_path / "no" / "c.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        load_certificate(tmp_path / "no" / "c.yaml")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"fingerprint": "e" * 64}, "cheap stage: it was made for the model mobilenet"),
        ({"sha256": "e" * 64}, "cheap stage: it was made for the model mobilenet"),
        ({"precision": "f32"}, "cheap stage: it was made with the precision bf16, this is f32"),
        ({"runtime": "onnxruntime"}, "cheap stage: it was made with the runtime openvino, this is onnxruntime"),
    ],
)
def test_another_stage(said: dict[str, str], words: str) -> None:
    (line,) = certificate().differences(Described("mobilenet", "odd", 0, **said), HEAVY, RULE)
    assert line.startswith(words)


def test_another_view() -> None:
    other = Described("mobilenet", "odd", 0)
    other.spec = ViewSpec(16, 16, crop=0.9)
    (line,) = certificate().differences(other, HEAVY, RULE)
    assert "crop 1, this is" in line and "crop 0.9" in line


def test_no_heavy_stage_and_another_rule() -> None:
    proved = certificate()
    assert "no heavy stage" in proved.differences(CHEAP, None, RULE)[0]
    assert proved.differences(CHEAP, HEAVY, RULE.model_copy(update={"clear_below": 0.3})) == [
        "rule.clear_below: it was made with 0.15, this is 0.3"
    ]
    assert "rule.confirm" in proved.differences(CHEAP, HEAVY, RULE.model_copy(update={"confirm": {"bad": 0.6}}))[0]
    assert "kind scores, this is boxes" in proved.rule_differences(Boxes(report={"odd": 0.5}))[0]
    looser = RULE.model_copy(update={"clear_below": None})
    assert proved.rule_differences(looser, but_calibrated=True) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1]",
        b"[" * 5000,
        b"\xff\xfe",
        b"a: &a [*a]\nseal: x",
        b"a: &a {b: *a}\nseal: x",
        b"a: 2020-01-01\nseal: x",
        b"a: !!set {x, y}\nseal: x",
        b"a: !!binary aGk=\nseal: x",
        b"? [1, 2]\n: 3\nseal: x",
        b"1: 2\nb: 3\nseal: x",
        b"a: " + b"9" * 5000 + b"\nseal: x",
    ],
)
def test_whatever_lies_there_is_no_certificate(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"no certificate|changed after it was made"):
        load_certificate(path)


def test_one_that_is_cut_off_is_none(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    certificate().save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"no certificate|changed after it was made"):
            load_certificate(path)
