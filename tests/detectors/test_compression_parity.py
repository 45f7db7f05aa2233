"""What counts as saying the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detectors.compression.parity import Disagreement, Tolerance, agreement

SCORES = arrays(np.float32, (6, 4), elements=st.floats(0, 1, width=32))


@given(SCORES)
def test_a_form_agrees_with_itself(scores: np.ndarray) -> None:
    same = agreement(scores, scores)
    assert (same.moved, same.top1) == (0.0, 1.0)
    assert same.cosine == pytest.approx(1.0)
    Tolerance(moved=0.0, top1=1.0, cosine=0.999).check(same, "the same")


@given(SCORES, SCORES)
def test_it_does_not_matter_who_is_the_reference(one: np.ndarray, other: np.ndarray) -> None:
    assert agreement(one, other) == agreement(other, one)


def test_each_broken_bound_is_told() -> None:
    found = agreement(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.9, 0.1], [0.8, 0.2]]))
    assert found.moved == pytest.approx(0.6)
    assert found.top1 == 0.5
    with pytest.raises(Disagreement) as caught:
        Tolerance().check(found, "small@int8")
    said = str(caught.value)
    assert said.startswith("small@int8 is refused on 2 pictures: ")
    assert "largest move of a score 0.6000 is above 0.1" in said
    assert "share of equal top labels 0.5000 is below 0.95" in said
    assert "cosine" in said


def test_a_model_that_answers_nothing_numeric_is_refused() -> None:
    with pytest.raises(Disagreement):
        Tolerance().check(agreement(np.array([[0.5, 0.5]]), np.array([[np.nan, np.nan]])), "broken")


def test_arrays_that_cannot_be_compared_are_a_bug() -> None:
    with pytest.raises(ValueError, match="like arrays"):
        agreement(np.zeros((2, 3)), np.zeros((2, 4)))
