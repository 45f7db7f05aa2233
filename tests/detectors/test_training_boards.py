"""Repaired boards, boards with one defect left, and the camera that sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from board_models import boards
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.datasets import read_dataset
from detectors.datasets.boards import SHIFT, repaired, sensed
from detectors.datasets.parts import parts_of
from pipeline.core.records import Array

SIDE = 64


def board(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """A board beside its reference, uint8 `[64, 64, 3]`, that differ everywhere, and boxes."""
    picture = rng.integers(0, 128, (SIDE, SIDE, 3), dtype=np.uint8)
    picture[..., 1:] += 128
    corners = rng.integers(0, SIDE - 12, (count, 2))
    return picture, np.concatenate([corners, corners + rng.integers(3, 12, (count, 2))], 1).astype(np.float32)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6), data=st.data())
def test_what_is_repaired_is_the_reference_and_what_is_kept_stays(seed: int, count: int, data: st.DataObject) -> None:
    picture, boxes = board(np.random.default_rng(seed), count)
    keep = np.array(sorted(data.draw(st.sets(st.integers(0, count - 1)))), int)
    before = picture.copy()
    out = repaired(picture, boxes, keep)
    assert np.array_equal(picture, before)
    assert np.array_equal(out[..., 1:], picture[..., 1:])
    kept, mended = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    for index, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        (kept if index in keep else mended)[y1:y2, x1:x2] = True
    assert np.array_equal(out[kept], picture[kept])
    near = np.zeros_like(kept)  # with the margin around a kept one
    for index in keep:
        x1, y1, x2, y2 = boxes[index].astype(int)
        near[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = True
    sure = mended & ~near
    assert np.array_equal(out[sure][:, 0], picture[sure][:, 1])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_camera_moves_a_part_by_no_more_than_it_says(seed: int) -> None:
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)
    picture[20:40, 24:50] = [200, 255, 255]
    seen = sensed(picture, np.random.default_rng(seed))
    assert seen.shape == picture.shape and seen.dtype == np.uint8
    assert np.array_equal(seen[..., 1], picture[..., 1]) and np.array_equal(seen[..., 2], picture[..., 2])
    rows, columns = (np.flatnonzero((seen[..., 0] > 127).any(axis)) for axis in (1, 0))
    moved = {(rows[0] - 20, rows[-1] - 39), (columns[0] - 24, columns[-1] - 49)}
    assert all(first == last and abs(first) <= SHIFT for first, last in moved)


def test_the_three_parts_of_a_board_share_no_defect(tmp_path: Path) -> None:
    data = read_dataset(boards(tmp_path))
    parts = parts_of(data)
    assert len(parts) > len(data)
    for sample in data.samples:
        mine = {part.name.removeprefix(f"{sample.name}-"): part for part in parts if part.sample is sample}
        good, single = mine["good"], mine["single"]
        assert not good.bad and not len(good.boxes)
        assert single.defects == len(single.boxes) == 1
        rest = mine["several"].kept.tolist() if "several" in mine else []
        assert sorted([*single.kept, *rest]) == list(range(len(sample.boxes)))
        clean = np.where(good.image().rgb()[..., 1] > 127, 255, 0)
        assert (np.abs(good.image().rgb()[..., 0].astype(int) - clean) < 100).all()  # as its reference, but for noise
