"""Which units a data set makes, whatever is known of its pictures, and a real model over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from av.video.frame import VideoFrame
from board_models import save_grey
from tiny_models import mean_colour

from detectors.choice import ModelChoice, build_stage
from detectors.datasets.base import DataSet, Sample
from detectors.evaluation.figures import figures
from detectors.rules.scores import Scores
from pipeline.app.evaluation.subject import Measured
from pipeline.app.evaluation.units import Skipped, chosen, judge, kind_of, spread, units_of
from pipeline.core.errors import InputError

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}


def coloured(folder: Path, name: str, colour: str) -> Path:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:] = COLOURS[colour]
    path = folder / f"{name}.png"
    VideoFrame.from_ndarray(pixels, format="rgb24").to_image().save(path)
    return path


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The labels are those of the data: what is green is good."""
    model = mean_colour(tmp_path_factory.mktemp("model") / "colours.onnx")
    choice = ModelChoice.model_validate(
        {
            "model": str(model), "output": "classification", "labels": ["red", "good", "blue"], "input": "unit",
            "runtime": "openvino", "precision": "f32", "max_batch": 2, "workers": 1,
        }
    )  # fmt: skip
    stage = build_stage(choice)
    yield Measured("colours", "1", stage, None, Scores(watch=("red", "blue"), flag_at=0.5), "the test")
    stage.close()  # type: ignore[attr-defined]


def judged(measured: Measured, data: DataSet, skipped: Skipped) -> Any:
    return judge(measured, units_of(data, "as-is", skipped), skipped, lambda done: None)


def test_one_class_a_picture(tmp_path: Path, colours: Measured) -> None:
    labels = ("blue", "good", "red")
    truth = (("a", "red", "red"), ("b", "green", "good"), ("c", "blue", "blue"), ("d", "blue", "red"))
    data = DataSet(
        labels,
        tuple(
            Sample(name, coloured(tmp_path, name, colour), classes=np.array([labels.index(kind)]))
            for name, colour, kind in truth
        ),
    )
    skipped = Skipped()
    metrics, remarks = figures(colours.against(labels), judged(colours, data, skipped))
    assert (skipped.counts, remarks) == ({}, [])
    assert metrics["confusion"]["table"] == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    assert metrics["accuracy"] == 0.75
    assert (metrics["auroc"], metrics["recall"], metrics["false_reject"]) == (1.0, 1.0, 0.0)


def test_masks_say_good_and_bad(tmp_path: Path, colours: Measured) -> None:
    samples = []
    for name, colour, level in (("a", "red", 255), ("b", "green", 0), ("c", "red", 0), ("d", "blue", 255)):
        mask = tmp_path / f"{name}-mask.png"
        save_grey(mask, np.full((16, 16), level, np.uint8))
        samples.append(Sample(name, coloured(tmp_path, name, colour), mask=mask))
    broken = tmp_path / "broken-mask.png"
    broken.write_bytes(b"none")
    samples += [
        Sample("e", coloured(tmp_path, "e", "red"), mask=broken),
        Sample("f", tmp_path / "gone.png", mask=samples[0].mask),
    ]
    skipped = Skipped()
    metrics, _ = figures(colours.against(("defect",)), judged(colours, DataSet(("defect",), tuple(samples)), skipped))
    assert skipped.counts == {"unreadable": 2}
    assert [word in name for name, word in zip(skipped.names, ("broken-mask", "gone"), strict=True)] == [True, True]
    assert metrics["confusion"]["table"] == [[1, 1], [0, 2]]
    assert metrics["recall"] == 1.0 and metrics["false_reject"] == 0.5


def test_what_is_asked_for(tmp_path: Path) -> None:
    data = DataSet((), tuple(Sample(f"s{n}", tmp_path / f"s{n}.png", group=f"g{n % 2}") for n in range(10)))
    assert [one.name for one in chosen(data, ("g1",), None, 3).samples] == ["s1", "s5", "s9"]
    with pytest.raises(InputError, match="there is no group"):
        chosen(data, ("g9",), None, None)
    (tmp_path / "names").write_text("s2\npath/to/s4.png other\ns99\n")
    with pytest.raises(InputError, match=r'names:3: there is no "s99"'):
        chosen(data, (), tmp_path / "names", None)
    (tmp_path / "names").write_text("s2\npath/to/s4.png other\n")
    assert [one.name for one in chosen(data, (), tmp_path / "names", None).samples] == ["s2", "s4"]
    (tmp_path / "names").write_text("\n")
    with pytest.raises(InputError, match="names nothing"):
        chosen(data, (), tmp_path / "names", None)
    assert spread(range(10), 1) == (0,)
    assert spread(range(3), 10) == (0, 1, 2)


def test_honest_parts_take_references(tmp_path: Path) -> None:
    plain = DataSet((), (Sample("a", tmp_path / "a.png"),))
    assert kind_of(plain, None, cascade=True) == "as-is"
    with pytest.raises(InputError, match="--parts"):
        kind_of(plain, "honest", cascade=True)
    place, kind = np.ones((1, 4), np.float32), np.zeros(1, np.int64)
    sample = Sample("a", tmp_path / "a.png", boxes=place, classes=kind, reference=tmp_path / "b.png")
    referenced = DataSet(("x",), (sample,))
    assert kind_of(referenced, None, cascade=True) == "honest"
    assert kind_of(referenced, None, cascade=False) == "as-is"
    assert kind_of(referenced, "honest", cascade=False) == "honest"
