"""What a heavy stage says, as something to be learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_pictures import picture
from training_parts import SIDE, boxed, folders, recipe

from detectors.datasets import read_dataset
from detectors.datasets.base import Sample
from detectors.training.judge import Eye
from detectors.training.loop import Training
from detectors.training.pack import manifest_of
from detectors.training.teacher import Lesson, labelled, lessons, mixed, untaught
from pipeline.core.errors import InputError
from pipeline.core.payloads import View, ViewSpec
from pipeline.core.records import Findings


class Teacher:
    """Says of every picture what it was told to."""

    name, max_batch, workers = "teacher", 1, 1
    spec = ViewSpec(SIDE, SIDE)

    def __init__(self, labels: Sequence[str], score: Any) -> None:
        self.labels = tuple(labels)
        self._score = score

    def score(self, views: Sequence[View]) -> list[Findings]:
        return [self._score(view) for view in views]

    def warm(self) -> None:
        """It is always ready."""

    def describe(self) -> dict[str, object]:
        return {"model": self.name}


def found(boxes: list[list[float]], scores: list[float], kinds: list[int], labels: Sequence[str] = ("a", "b")) -> Any:
    return Findings(
        tuple(labels),
        np.array(scores, np.float32),
        np.array(kinds, np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
    )


KNOWN = Lesson(np.array([[0, 0, 10, 10]], np.float32), np.array([1]), np.ones(1, np.float32))
BOX = st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(4, 20)] * 2).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


@settings(max_examples=80, deadline=None)
@given(
    boxes=st.lists(st.tuples(BOX, st.floats(0, 1), st.integers(0, 1)), max_size=6),
    share=st.floats(0, 1),
)
def test_the_laws_of_mixing(boxes: list[tuple[list[float], float, int]], share: float) -> None:
    said = found([b for b, _, _ in boxes], [s for _, s, _ in boxes], [k for _, _, k in boxes])
    out = mixed(KNOWN, said, share)
    assert len(out.boxes) == len(out.classes) == len(out.sure)
    assert np.array_equal(out.boxes[0], KNOWN.boxes[0]) and out.classes[0] == 1
    assert 1 - share - 1e-6 <= out.sure[0] <= 1 + 1e-6  # a label keeps its own share at least
    assert (out.sure[1:] <= share + 1e-6).all()  # and nothing new has more than the teacher's
    assert ((out.sure >= -1e-6) & (out.sure <= 1 + 1e-6)).all()
    if share == 0:
        assert out.sure[0] == 1 and not out.sure[1:].any()


def test_what_the_teacher_confirms_stays_sure_and_what_it_does_not_know_gets_doubtful() -> None:
    confirmed = mixed(KNOWN, found([[1, 1, 10, 10]], [0.8], [1]), 0.5)
    assert confirmed.sure.tolist() == pytest.approx([0.5 + 0.5 * 0.8])
    denied = mixed(KNOWN, found([], [], []), 0.5)
    assert denied.sure.tolist() == [0.5]
    other = mixed(KNOWN, found([[1, 1, 10, 10], [30, 30, 40, 40], [50, 50, 60, 60]], [0.8, 0.6, 0.05], [0, 1, 1]), 0.5)
    assert other.classes.tolist() == [1, 0, 1]  # of another class, elsewhere; the last one is noise
    assert other.sure.tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert mixed(KNOWN, found([[1, 1, 10, 10]], [0.8], [1]), 1.0).sure.tolist() == pytest.approx([0.8])


def test_of_whole_pictures_the_word_and_the_label_are_averaged() -> None:
    said = Findings(("good", "bad"), np.array([0.9, 0.1], np.float32), np.array([0, 1]))
    none, bad = Lesson(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)), np.array([1])
    labelled = Lesson(np.zeros((0, 4), np.float32), bad, np.zeros(0))
    for lesson, share, expected in [
        (labelled, 0.0, [0, 1]), (labelled, 0.5, [0.45, 0.55]), (labelled, 1.0, [0.9, 0.1]),
        (none, 0.5, [0.95, 0.05]), (none, 1.0, [0.9, 0.1]),
    ]:  # fmt: skip
        shares = mixed(lesson, said, share).shares
        assert shares is not None and shares.tolist() == pytest.approx(expected)


def test_a_class_without_a_box_is_no_box() -> None:
    masked = Lesson(np.zeros((0, 4), np.float32), np.zeros(1, np.int64), np.zeros(0, np.float32))
    out = mixed(masked, found([[1, 1, 10, 10]], [0.8], [0], ["defect"]), 0.25)
    assert (out.classes.tolist(), out.sure.tolist(), out.sure_of_mask) == ([0], [pytest.approx(0.2)], 0.75)


def test_with_one_class_all_labels_are_that(tmp_path: Path) -> None:
    sample = Sample("a", tmp_path, boxes=np.zeros((2, 4), np.float32), classes=np.array([3, 5]))
    assert untaught(sample, 1).classes.tolist() == [0, 0]
    assert untaught(sample, 6).classes.tolist() == [3, 5]


def test_lessons_go_by_names_and_by_the_learners_labels(tmp_path: Path) -> None:
    samples = boxed(tmp_path, 4)
    (tmp_path / "cut.png").write_bytes(samples[0].file.read_bytes()[:50])
    samples.append(Sample("cut.png", tmp_path / "cut.png"))
    said = found([[1, 1, 3, 3]], [0.5], [0], ["dent", "scratch"])
    teacher = Teacher(["dent", "scratch"], lambda view: said)
    taught = lessons(teacher, samples, 1.0, ["scratch", "dent"], whole=False)
    assert list(taught) == [sample.name for sample in samples[:4]]
    assert taught["000.png"].classes.tolist() == [1]
    assert lessons(teacher, samples, 1.0, ["odd"], whole=False)["000.png"].classes.tolist() == [0]


@pytest.mark.parametrize(
    ("labels", "whole", "words"),
    [
        (["dent"], True, "speaks of places, and this stage learns of whole pictures"),
        (["dent", "hole"], False, "knows dent, scratch, and this stage is to learn dent, hole"),
    ],
)
def test_a_teacher_who_speaks_of_something_else(tmp_path: Path, labels: list[str], whole: bool, words: str) -> None:
    sample = Sample("a", picture(tmp_path / "a.png"))
    teacher = Teacher(["dent", "scratch"], lambda view: found([], [], [], ["dent", "scratch"]))
    with pytest.raises(InputError, match=f"teacher: .*{words}"):
        lessons(teacher, [sample], 1.0, labels, whole=whole)


@pytest.mark.slow
def test_who_learns_from_the_teacher_alone_ends_up_agreeing(tmp_path: Path) -> None:
    """The teacher calls bad what is brighter than usual, which no label says: all of them are wrong."""
    data = read_dataset(folders(tmp_path / "parts", 24))
    samples = [Sample(s.name, s.file, classes=1 - s.classes) for s in data.samples]

    def word(view: View) -> Findings:
        bad = 0.95 if view.pixels.max() > 200 else 0.05
        return Findings(("good", "bad"), np.array([1 - bad, bad], np.float32), np.array([0, 1]))

    taught = lessons(Teacher(["good", "bad"], word), samples, 1.0, ["good", "bad"], whole=True)
    said = recipe(network={"head": "classification", "classes": 2}, steps=80, batch=8, rate=2e-3, average=0.5, clip=100,
                  evaluate_every=80, distill=1.0)  # fmt: skip
    eye = Eye(manifest_of("learner", said, ["good", "bad"]), bf16=False)

    def agreement(network: Any) -> float:
        apart = [eye.look(network, s.image()).scores - word(s.image().view(Teacher.spec)).scores for s in samples]
        return 1 - float(np.abs(apart).mean())

    learner = Training(said, samples, tmp_path / "work", lambda network: {}, taught=taught)
    before = agreement(learner.average)
    after = agreement(learner.run())
    assert before < 0.6 and after > 0.75


def test_pictures_that_nobody_labelled_get_the_teachers_word(tmp_path: Path) -> None:
    for number in range(2):
        picture(tmp_path / f"{number}.png", SIDE, SIDE, number)
    (tmp_path / "cut.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])  # its header is whole
    data = read_dataset(tmp_path, "unlabelled", labelled=False)
    places = Teacher(
        ("dent", "ok"), lambda view: found([[1, 2, 9, 8], [0, 0, 5, 5]], [0.6, 0.4], [0, 0], ("dent", "ok"))
    )
    done, said = labelled(places, data, tmp_path)
    assert done.labels == ("ok", "dent")  # what says that nothing is wrong comes first
    assert [(s.boxes.tolist(), s.classes.tolist()) for s in done.samples] == [([[1, 2, 9, 8]], [1])] * 2
    assert done.left_out == {"unreadable pictures": 1}

    shares = Findings(("dent", "ok"), np.array([0.9, 0.1], np.float32), np.arange(2))
    done, said = labelled(Teacher(("dent", "ok"), lambda view: shares), data, tmp_path)
    deaf = Teacher(("dent", "ok"), None)  # who is asked nothing again
    taught = lessons(deaf, done.samples, 1.0, done.labels, whole=True, said=said)
    assert [lesson.shares.tolist() for lesson in taught.values()] == [pytest.approx([0.1, 0.9])] * 2
    assert [(len(s.boxes), s.classes.tolist(), done.bad(s)) for s in done.samples] == [(0, [1], True)] * 2
