"""How figures are taken and told."""

from __future__ import annotations

import math
import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.app.bench import BENCHES
from pipeline.app.bench.machine import cores, machine
from pipeline.app.bench.measure import Pairs, Spread, core_seconds, in_turns, rate, spread
from pipeline.app.bench.report import Row, paired
from pipeline.core.errors import InputError


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30))
def test_the_interval_holds_the_median(values: list[float]) -> None:
    found = spread(values)
    assert min(values) <= found.low <= found.median <= found.high <= max(values)
    assert found.median == pytest.approx(np.median(values))


def test_a_wider_scatter_gives_a_wider_interval() -> None:
    random = np.random.default_rng(1)
    narrow, wide = spread(list(random.normal(1, 0.01, 24))), spread(list(random.normal(1, 0.1, 24)))
    assert narrow.high - narrow.low < wide.high - wide.low
    assert narrow.low < 1 < narrow.high or abs(narrow.median - 1) < 0.01


def test_subject_and_baseline_take_turns_at_going_first() -> None:
    calls: list[str] = []

    def subject() -> float:
        calls.append("s")
        return float(len(calls))

    def baseline() -> float:
        calls.append("b")
        return float(len(calls))

    pairs = in_turns(subject, baseline, pairs=4, warm=1)
    assert "".join(calls) == "sb" + "sbbs" * 2
    assert pairs == Pairs((3.0, 6.0, 7.0, 10.0), (4.0, 5.0, 8.0, 9.0))  # what warmed up does not count
    assert pairs.ratio.median == pytest.approx(np.median([3 / 4, 6 / 5, 7 / 8, 10 / 9]))


def test_a_rate_is_how_many_in_how_long() -> None:
    waiting = threading.Event()
    measured = rate(lambda: 5 + waiting.wait(0.05))()
    assert 0 < measured <= 5 / 0.05


def test_core_seconds_count_work_and_not_waiting() -> None:
    def work() -> int:
        threading.Event().wait(0.3)
        return 1

    assert core_seconds(work) < 0.15


@pytest.mark.parametrize(
    ("row", "holds", "target"),
    [
        (Row("x", 5.0, "ms"), None, None),
        (Row("x", 5.0, "ms", at_most=5.0), True, "≤ 5"),
        (Row("x", 5.1, "ms", at_most=5.0), False, "≤ 5"),
        (Row("x", 0.0, "", at_most=0.0), True, "≤ 0"),
        (Row("x", 1.0, "", at_most=0.0), False, "≤ 0"),
        (Row("x", 99.0, "", 100.0, 0.99, at_least=0.95), True, "≥ 0.95"),
        (Row("x", 99.0, "", 100.0, Spread(0.9, 0.8, 0.99), at_least=0.95), False, "≥ 0.95"),
        (Row("x", math.nan, "ms", at_most=80.0), False, "≤ 80"),
    ],
)
def test_a_bound_is_of_the_ratio_if_there_is_one(row: Row, holds: bool | None, target: str | None) -> None:
    said = row.document()
    assert (said.get("holds"), said.get("target")) == (holds, target)


def test_a_row_tells_medians_and_the_spread_of_their_ratio() -> None:
    said = paired("x", "per s", Pairs((1.0, 2.0, 3.0), (2.0, 2.0, 2.0)), 0.5, "by hand").document()
    low, high = said.pop("ratio_95")
    assert 0.5 <= low <= 1.0 <= high <= 1.5
    assert said == {
        "figure": "x", "value": 2.0, "unit": "per s", "baseline": 2.0, "ratio": 1.0,
        "target": "≥ 0.5", "holds": True, "note": "3 pairs; by hand",
    }  # fmt: skip


def test_the_machine_is_told() -> None:
    said = machine()
    assert said["processor"]
    assert said["cores"] == cores() <= (os.cpu_count() or 1)
    assert {"av", "numpy", "openvino"} <= set(said["versions"])
    assert isinstance(said["instruction_sets"], list)


def test_every_bench_in_the_catalogue_is_there() -> None:
    for name in BENCHES.kinds():
        assert callable(BENCHES.load(name))
    with pytest.raises(InputError, match='Did you mean "engine"'):
        BENCHES.load("engin")
