"""The laws of a split."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.datasets import split
from detectors.datasets.base import DataSet, Sample
from pipeline.core.errors import InputError

SHARES = st.floats(0.01, 0.99)


def made(groups: list[str], bad: list[bool]) -> DataSet:
    samples = tuple(
        Sample(f"{index}", Path("none"), group, classes=np.array([int(wrong)]))
        for index, (group, wrong) in enumerate(zip(groups, bad, strict=True))
    )
    return DataSet(("good", "bad"), samples)


@st.composite
def data_sets(draw: st.DrawFn) -> DataSet:
    size = draw(st.integers(2, 60))
    groups = draw(st.lists(st.sampled_from(["", "a", "b", "c", "d", "e"]), min_size=size, max_size=size))
    groups[:2] = ["first", "second"]
    return made(groups, draw(st.lists(st.booleans(), min_size=size, max_size=size)))


@given(data_sets(), SHARES, st.integers(0, 5))
def test_a_split_is_a_partition_by_group(data: DataSet, share: float, seed: int) -> None:
    rest, held = split(data, share, seed)
    assert len(rest) and len(held)
    assert sorted([*rest.samples, *held.samples], key=lambda s: int(s.name)) == list(data.samples)
    assert not (rest.groups.keys() & held.groups.keys()) - {""}
    assert rest.labels == held.labels == data.labels


@given(data_sets(), SHARES, st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_split_depends_on_nothing_else(data: DataSet, share: float, seed: int, order: Random) -> None:
    shuffled = list(data.samples)
    order.shuffle(shuffled)
    one, other = split(data, share, seed), split(DataSet(data.labels, tuple(shuffled)), share, seed)
    for side, same in zip(one, other, strict=True):
        assert {sample.name for sample in side.samples} == {sample.name for sample in same.samples}


@given(st.lists(st.booleans(), min_size=20, max_size=200), st.floats(0.1, 0.9))
def test_single_samples_are_split_alike_among_good_and_bad(bad: list[bool], share: float) -> None:
    data = made([""] * len(bad), bad)
    _, held = split(data, share)
    for wrong in (False, True):
        there = sum(data.bad(sample) == wrong for sample in data.samples)
        assert abs(sum(held.bad(sample) == wrong for sample in held.samples) - share * there) <= 1


def test_groups_are_chosen_so_that_both_kinds_are_on_both_sides() -> None:
    data = made([f"g{index // 10}" for index in range(200)], [index % 20 < 3 for index in range(200)])
    rest, held = split(data, 0.3)
    assert len(held) == 60
    assert sum(map(held.bad, held.samples)) == 9
    assert sum(map(rest.bad, rest.samples)) == 21


def test_the_seed_matters() -> None:
    data = made([""] * 50, [index % 2 == 0 for index in range(50)])
    assert split(data, 0.5, 1)[1].samples != split(data, 0.5, 2)[1].samples


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan"), float("inf")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        split(made(["", ""], [True, False]), share)


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(InputError, match="all 2 samples are of one group"):
        split(made(["a", "a"], [True, False]), 0.5)
