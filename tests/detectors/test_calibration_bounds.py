"""What a number of misses proves: the published table, and simulations of many calibrations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from detectors.calibration.bounds import (
    Test,
    evidence,
    fixed_sequence,
    log_e_value,
    missing_positives,
    positives_needed,
    provable,
)


def at_most(share: float, draws: int) -> int:
    """More of `draws` than that, at a true share of `share`, comes once in ten thousand tests."""
    return int(binom.ppf(0.9999, draws, share))


@pytest.mark.parametrize(
    ("alpha", "test", "needed"),
    [
        (0.05, "exact", (59, 93, 124, 208)),
        (0.02, "exact", (149, 236, 313, 523)),
        (0.01, "exact", (299, 473, 628, 1049)),
        (0.005, "exact", (598, 947, 1258, 2100)),
        (0.05, "e-value", (67, 132, 173, 284)),
        (0.01, "e-value", (341, 672, 876, 1438)),
        (0.005, "e-value", (684, 1347, 1755, 2880)),
    ],
)
def test_positives_needed_at_0_1_2_and_5_misses(alpha: float, test: Test, needed: tuple[int, ...]) -> None:
    assert tuple(positives_needed(alpha, 0.05, misses, test) for misses in (0, 1, 2, 5)) == needed
    for misses, n in zip((0, 1, 2, 5), needed, strict=True):
        assert evidence(misses, n, alpha, test) <= 0.05 < evidence(misses, n - 1, alpha, test)


def test_what_forty_without_a_miss_prove() -> None:
    assert round(provable(0, 40, 0.05), 3) == 0.072


@pytest.mark.parametrize("test", ["exact", "e-value"])
@pytest.mark.parametrize(("misses", "n"), [(0, 40), (3, 200), (7, 7), (40, 41), (0, 100_000)])
def test_what_is_provable_is_the_least_alpha_that_is_accepted(test: Test, misses: int, n: int) -> None:
    alpha = provable(misses, n, 0.05, test)
    assert 0 < alpha <= 1
    if alpha < 0.999:
        assert evidence(misses, n, alpha * 1.000001, test) <= 0.05 < evidence(misses, n, alpha * 0.999999, test)


def test_nothing_is_proved_by_nothing() -> None:
    assert provable(0, 0, 0.05) == 1.0
    assert missing_positives(0, 0.02, 0.05) == 149
    assert missing_positives(149, 0.02, 0.05) == 0
    assert missing_positives(148, 0.02, 0.05) == 1


def test_the_sequence_stops_at_the_first_that_fails() -> None:
    assert fixed_sequence([0.01, 0.05, 0.2, 0.01], 0.05) == 1
    assert fixed_sequence([0.06, 0.01], 0.05) is None
    assert fixed_sequence([], 0.05) is None
    assert fixed_sequence([math.nan, 0.01], 0.05) is None


def test_the_e_value_as_it_is_written_down() -> None:
    for misses, n, a in ((0, 50, 0.02), (2, 300, 0.01), (5, 40, 0.2)):
        straight = 0.4 * (1 - a) ** -n * (misses == 0) + 0.2 * sum(
            (q / a) ** misses * ((1 - q) / (1 - a)) ** (n - misses) for q in (a / 8, a / 4, a / 2)
        )
        assert math.exp(log_e_value(misses, n, a)) == pytest.approx(straight, rel=1e-12)


def test_the_mean_of_the_e_value_is_one_at_alpha_and_less_above() -> None:
    n, alpha = 120, 0.05
    e = np.exp([log_e_value(m, n, alpha) for m in range(n + 1)])
    assert float(binom.pmf(range(n + 1), n, alpha) @ e) == pytest.approx(1, rel=1e-9)
    assert float(binom.pmf(range(n + 1), n, 0.06) @ e) < 1


ALPHA, DELTA, CALIBRATIONS = 0.05, 0.1, 6000
RATES = np.arange(0, 61) * 0.002  # the true miss rate at each threshold, the most cautious first


def chosen(misses: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The true miss rate at the threshold that each calibration chooses, 0 where it chooses none."""
    table = {count: [evidence(m, count, ALPHA) for m in range(60)] for count in set(n.tolist())}
    picked = [
        fixed_sequence([table[count][min(m, 59)] for m in row], DELTA)
        for row, count in zip(misses.tolist(), n.tolist(), strict=True)
    ]
    return np.array([0.0 if index is None else RATES[index] for index in picked])


def drawn(random: np.random.Generator, n: np.ndarray) -> np.ndarray:
    """Misses at each threshold `[calibrations, thresholds]`: a positive has one score, and what a threshold misses, the
    next one misses, too."""
    steps = np.append(np.diff(RATES, prepend=0.0), 1 - RATES[-1])
    return random.multinomial(n, steps).cumsum(axis=1)[:, :-1]


def test_the_promise_fails_no_more_often_than_delta() -> None:
    random = np.random.default_rng(1)
    n = random.integers(45, 65, CALIBRATIONS) * 5  # how many positives there are is chance, too
    broken = int((chosen(drawn(random, n), n) > ALPHA + 1e-12).sum())
    assert broken <= at_most(DELTA, CALIBRATIONS)
    assert broken > DELTA * CALIBRATIONS / 4  # it is no emptier a promise than it need be


def test_several_classes_under_one_threshold_take_the_worst_p_and_no_split_of_delta() -> None:
    random = np.random.default_rng(2)
    n = np.full(CALIBRATIONS, 250)
    tables = [evidence(m, 250, ALPHA) for m in range(251)]
    first, second = drawn(random, n), drawn(random, n)
    p = np.maximum(np.take(tables, first), np.take(tables, second))
    picked = [fixed_sequence(row, DELTA) for row in p.tolist()]
    broken = sum(index is not None and RATES[index] > ALPHA + 1e-12 for index in picked)
    assert broken <= at_most(DELTA, CALIBRATIONS)


def test_to_add_and_look_again_breaks_the_exact_test_and_not_the_e_value() -> None:
    """The miss rate is a hair above α. Somebody adds positives, a few at a time, until it looks good."""
    random = np.random.default_rng(3)
    alpha, delta, runs, most = 0.05, 0.05, 4000, 500
    misses = (random.random((runs, most)) < alpha * 1.0001).cumsum(axis=1)
    looks = np.arange(58, most, 20)
    fooled = {}
    for test in ("exact", "e-value"):
        where = range(most) if test == "e-value" else looks  # the e-value may be looked at after every single one
        held = np.zeros(runs, bool)
        for at in where:
            table = np.array([evidence(m, at + 1, alpha, test) for m in range(int(misses[:, at].max()) + 1)])
            held |= table[misses[:, at]] <= delta
        fooled[test] = int(held.sum())
    assert fooled["exact"] > 2 * delta * runs
    assert fooled["e-value"] <= at_most(delta, runs)
