"""What chance does to a picture, it does to all that is known of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.manifest import ViewSettings
from detectors.networks.pyramid import Architecture
from detectors.training.augment import Augmentation, Example, augmented, plain
from detectors.training.losses import Targets
from pipeline.core.records import Array

WIDTH, HEIGHT = 96, 64
HOW = {"light": 0.0, "noise": 0.0}
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def placed(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """A rectangle, x1 y1 x2 y2, not too small to be found again."""
    width, height = draw(st.integers(8, 40)), draw(st.integers(8, 40))
    left, top = draw(st.integers(0, WIDTH - width)), draw(st.integers(0, HEIGHT - height))
    return left, top, left + width, top + height


def bright(box: tuple[int, int, int, int], width: int = WIDTH, height: int = HEIGHT) -> Example:
    """A picture that is bright in its one box, and a mask that says the same."""
    x1, y1, x2, y2 = box
    picture = np.zeros((height, width, 3), np.uint8)
    picture[y1:y2, x1:x2] = 255
    boxes, classes = np.array([box], np.float32), np.array([1], np.int64)
    return Example(picture, boxes, classes, np.ones(1, np.float32), mask=picture[..., 0] > 0)


def where_bright(picture: Array) -> tuple[float, float, float, float] | None:
    rows, columns = np.nonzero(picture[..., 0] > 127)
    if not len(rows):
        return None
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def view(width: int = WIDTH, height: int = HEIGHT, **said: Any) -> ViewSettings:
    return ViewSettings(width=width, height=height, **said)


@settings(max_examples=60, deadline=None)
@given(box=placed(), seed=SEEDS, crop=st.sampled_from([None, 32, 64]), scale=st.sampled_from([0.0, 0.4]))
def test_a_box_stays_on_its_thing_and_so_does_a_mask(
    box: tuple[int, int, int, int], seed: int, crop: int | None, scale: float
) -> None:
    how = Augmentation(crop=crop, scale=scale, **HOW)
    out = augmented(bright(box), how, view(), np.random.default_rng(seed))
    assert out.picture.shape == ((crop, crop, 3) if crop else (HEIGHT, WIDTH, 3))
    assert out.mask is not None and out.mask.shape == out.picture.shape[:2]
    assert (out.mask != (out.picture[..., 0] > 127)).mean() < 0.08  # a border's width
    assert len(out.boxes) == len(out.classes) == len(out.sure)
    found = where_bright(out.picture)
    for told in [*out.boxes, *out.ignored]:
        assert found is not None
        np.testing.assert_allclose(told, found, atol=1.6)
    if found is not None and (found[2] - found[0]) * (found[3] - found[1]) > 4:
        assert len(out.boxes) + len(out.ignored) == 1


@settings(max_examples=60, deadline=None)
@given(box=placed(), seed=SEEDS)
def test_nothing_is_learned_of_a_thing_of_which_too_little_is_seen(box: tuple[int, int, int, int], seed: int) -> None:
    out = augmented(bright(box), Augmentation(crop=32, scale=0.0, **HOW), view(), np.random.default_rng(seed))
    seen = int((out.picture[..., 0] > 127).sum())
    area = (box[2] - box[0]) * (box[3] - box[1])
    if abs(seen / area - 0.6) < 1e-3:
        return
    assert len(out.boxes) == (seen / area > 0.6)
    assert len(out.ignored) == (0 < seen / area < 0.6)
    out.mask = None
    targets = Targets([out], Architecture(head="boxes", stride=4, classes=2))
    if not len(out.boxes):
        assert float(targets.peaks.max()) == 0
        rows, columns = np.nonzero(out.picture[..., 0] > 127)
        assert not targets.weight[0, 0, rows // 4, columns // 4].any()
        assert len(rows) == 0 or (targets.weight == 0).any()


def test_a_thing_in_the_way_of_an_ignored_one_is_learned_all_the_same() -> None:
    example = bright((8, 8, 16, 16), 32, 32)
    example.mask, example.ignored = None, np.array([[0.0, 0.0, 14.0, 20.0]], np.float32)
    targets = Targets([example], Architecture(head="heatmap", stride=4, classes=2))
    assert targets.weight[0, 0, 3, 3] == 1 == targets.peaks[0, 1, 3, 3]
    assert targets.weight[0, 0].sum() == 64 - 4 * 5 + 1


@settings(max_examples=40, deadline=None)
@given(
    box=placed(),
    size=st.sampled_from([(96, 64), (64, 64), (64, 96)]),
    fit=st.sampled_from([{"fit": "stretch"}, {"fit": "letterbox"}, {"crop": 0.5}, {"crop": 0.75}, {"colour": "bgr"}]),
)
def test_what_the_model_will_see_keeps_boxes_and_masks_in_place(
    box: tuple[int, int, int, int], size: tuple[int, int], fit: dict[str, Any]
) -> None:
    out = plain(bright(box), view(*size, **fit))
    assert out.picture.shape == (size[1], size[0], 3)
    letterboxed = out.picture[..., 0].astype(int) > 135  # its bars are grey
    rows, columns = np.nonzero(letterboxed)
    for told in [*out.boxes, *out.ignored]:
        assert len(rows)
        np.testing.assert_allclose(told, [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=2.6)
    assert out.mask is not None
    assert (out.mask != letterboxed).mean() < 0.12


def test_a_view_of_the_same_size_is_a_view_all_the_same() -> None:
    example = bright((8, 8, 24, 24))
    example.picture[..., 2] = 7
    assert plain(example, view(colour="bgr")).picture[0, 0].tolist() == [7, 0, 0]
    assert (plain(example, view(crop=0.5)).picture != example.picture).any()


def test_a_class_without_a_place_outlives_every_crop() -> None:
    whole = Example(
        np.zeros((64, 64, 3), np.uint8), np.zeros((0, 4), np.float32), np.array([1]), np.zeros(0, np.float32)
    )
    out = augmented(whole, Augmentation(crop=32), view(64, 64), np.random.default_rng(0))
    assert out.classes.tolist() == [1]
    targets = Targets([out], Architecture(head="classification", classes=2))
    assert targets.shares.tolist() == [[0, 1]]


@settings(max_examples=25, deadline=None)
@given(box=placed(), seed=SEEDS, crop=st.sampled_from([None, 32]))
def test_the_same_seed_gives_the_same_example(box: tuple[int, int, int, int], seed: int, crop: int | None) -> None:
    how = Augmentation(crop=crop, sensor=0.5, repair=0.5)
    given_one = bright(box)
    before = given_one.picture.copy()
    one, other = (augmented(given_one, how, view(), np.random.default_rng(seed), has_reference=True) for _ in range(2))
    for name in ("picture", "boxes", "classes", "sure", "ignored", "mask"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert np.array_equal(given_one.picture, before)


def test_light_changes_all_channels_alike_and_keeps_grey_in_the_middle() -> None:
    grey = Example(
        np.full((32, 32, 3), 127, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int), np.zeros(0, np.float32)
    )
    seen = [
        augmented(grey, Augmentation(light=0.2, noise=0.0), view(32, 32), np.random.default_rng(seed)).picture
        for seed in range(200)
    ]
    assert all((picture == picture[0, 0, 0]).all() for picture in seen)
    assert np.mean(seen) == pytest.approx(127, abs=2)
    assert np.std([picture[0, 0, 0] for picture in seen]) > 5
