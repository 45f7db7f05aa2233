"""The audit's statistics: the formulas as they are written down, and simulations of audits that somebody watches."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chisquare

from detectors.calibration.audit import (
    AuditPlan,
    Drift,
    Tally,
    bounds,
    coin,
    log_wealth_above,
    log_wealth_below,
)
from detectors.calibration.outlook import Outlook, plain_time

PLAN = AuditPlan(alpha=0.01, delta=0.05, p_min=0.1, p_ref=0.1)


def caught(known: int, missed: dict[float, int] | None = None) -> Tally:
    """So many catches of which the heavy stage saw the whole unit anyway, and misses by p."""
    return Tally(Counter({1.0: known}), Counter(missed or {}))


def at_most(share: float, draws: int) -> int:
    return int(binom.ppf(0.9999, draws, share))


class TestWealth:
    """Against the products over units that they stand for, one unit after the other."""

    units = (
        ((0.0, 1.0),) * 40 + ((0.0, 1 / 0.2),) * 6 + ((1 / 0.2, 0.0),) * 3 + ((1 / 0.5, 0.0),) * 2 + ((0.0, 0.0),) * 7
    )
    counts = np.array([3, 2, 0]), np.array([0.2, 0.5, 1.0]), np.array([6, 0, 40])
    plan = AuditPlan(alpha=0.05, delta=0.05, p_min=0.2, p_ref=0.3)

    @pytest.mark.parametrize("m", [0.001, 0.05, 0.3, 0.9])
    def test_against_a_rate_of_at_most_m(self, m: float) -> None:
        products = []
        for u in (1 / 4, 1 / 2, 1, 2, 4, 8, 16):
            stake = min(u * 0.3 / (1 - m), 0.9 * 0.2 / m)
            products.append(math.prod(1 + stake * ((1 - m) * x - m * c) for x, c in self.units))
        ours = log_wealth_above(self.plan, m, *self.counts)
        assert math.exp(ours) == pytest.approx(sum(products) / 7, rel=1e-9)

    @pytest.mark.parametrize("m", [0.001, 0.05, 0.3, 0.9])
    def test_against_a_rate_of_at_least_m(self, m: float) -> None:
        products = []
        for kappa in (0.05, 0.1, 0.2, 0.4, 0.7, 0.97):
            stake = kappa * 0.2 / (1 - m)
            products.append(math.prod(1 - stake * ((1 - m) * x - m * c) for x, c in self.units))
        ours = log_wealth_below(self.plan, m, *self.counts)
        assert math.exp(ours) == pytest.approx(sum(products) / 6, rel=1e-9)


class TestTally:
    def test_the_estimate_is_weighted(self) -> None:
        """A true miss rate of 1 %, of which an audit with p = 0.02 finds a fiftieth."""
        tally = caught(99_000, {0.02: 20})
        assert tally.estimate == pytest.approx(0.01)
        assert Tally(Counter({0.02: 1980}), Counter({0.02: 20})).estimate == pytest.approx(0.01)
        assert Tally().estimate is None
        assert Tally().worst is None

    def test_what_was_not_seen_is_shown_as_missed_beside_it(self) -> None:
        tally = caught(90, {0.5: 5}) + Tally(unseen=Counter({0.5: 50})) + Tally(unseen=Counter({1.0: 100}))
        assert tally.estimate == pytest.approx(0.1)
        assert tally.worst == pytest.approx(0.7)

    def test_units_are_counted_by_what_the_heavy_model_says(self) -> None:
        tally = Tally()
        for flagged in (True, False, True):
            tally.heard(1.0, flagged=flagged, reported=True)
            tally.heard(0.5, flagged=flagged, reported=False)
        assert (tally.caught, tally.missed) == (Counter({1.0: 2}), Counter({0.5: 2}))
        assert (tally.misses, tally.positives) == (4, 6)

    @given(
        st.integers(0, 500),
        st.dictionaries(st.sampled_from([0.1, 0.2, 0.5, 1.0]), st.integers(1, 20)),
        st.integers(0, 500),
        st.dictionaries(st.sampled_from([0.1, 0.2, 0.5, 1.0]), st.integers(1, 20)),
    )
    def test_workers_add_up_and_a_restart_forgets_nothing(
        self, c: int, x: dict[float, int], more_c: int, more_x: dict[float, int]
    ) -> None:
        one, other = caught(c, x), Tally(Counter({0.2: more_c}), Counter(more_x), Counter({0.2: 3}))
        kept = Tally.from_document(json.loads(json.dumps((one + other).to_document())))
        assert kept == other + one
        assert bounds(PLAN, kept) == bounds(PLAN, one + other)
        assert 0 <= bounds(PLAN, kept).lower <= bounds(PLAN, kept).upper <= 1


class TestBounds:
    def test_it_begins_knowing_nothing(self) -> None:
        found = bounds(PLAN, Tally())
        assert (found.lower, found.upper, found.estimate, found.state) == (0.0, 1.0, None, "unproven")

    def test_they_are_where_the_wealth_is_one_over_delta(self) -> None:
        tally = caught(900, {0.1: 6, 0.4: 3})
        found = bounds(AuditPlan(0.01, 0.05, 0.1, 0.2), tally)
        plan = AuditPlan(0.01, 0.05, 0.1, 0.2)
        counts = np.array([6, 3, 0]), np.array([0.1, 0.4, 1.0]), np.array([0, 0, 900])
        assert math.exp(log_wealth_above(plan, found.lower, *counts)) == pytest.approx(20, rel=1e-6)
        assert math.exp(log_wealth_below(plan, found.upper, *counts)) == pytest.approx(20, rel=1e-6)
        assert tally.estimate is not None
        assert found.lower < tally.estimate < found.upper

    def test_three_states(self) -> None:
        assert bounds(PLAN, caught(6000)).state == "confirmed"
        assert bounds(PLAN, caught(3000)).state == "unproven"  # its upper bound is above α, which proves nothing
        assert bounds(PLAN, caught(3000, {0.1: 20})).state == "broken"

    def test_what_was_not_seen_may_have_been_anything(self) -> None:
        """They hold whatever it was: as if all of it had been missed, and as if all of it had been caught."""
        unseen = Counter({0.1: 4})
        found = bounds(PLAN, Tally(Counter({1.0: 6000}), Counter({0.1: 15}), unseen))
        missed = bounds(PLAN, Tally(Counter({1.0: 6000}), Counter({0.1: 19})))
        reported = bounds(PLAN, Tally(Counter({1.0: 6000, 0.1: 4}), Counter({0.1: 15})))
        assert (found.lower, found.upper) == (reported.lower, missed.upper)
        assert found.lower < missed.lower and found.upper > reported.upper

    def test_what_is_still_due_may_have_been_missed(self) -> None:
        tally, due = caught(6000, {0.1: 15}), Counter({0.1: 40, 0.5: 2})
        found, all_missed = bounds(PLAN, tally, due), bounds(PLAN, caught(6000, {0.1: 55, 0.5: 2}))
        assert (found.lower, found.upper) == (bounds(PLAN, tally).lower, all_missed.upper)
        assert tally.beside(due).worst == pytest.approx((550 + 4) / (6000 + 550 + 4))

    def test_catches_that_only_the_coin_tells_of_prove_as_much_but_for_a_hair(self) -> None:
        """One in ten of them is looked at, and counts ten times: at a small α that costs next to nothing."""
        known, sampled = caught(6000, {0.1: 1}), Tally(Counter({0.1: 600}), Counter({0.1: 1}))
        assert bounds(PLAN, sampled).upper == pytest.approx(bounds(PLAN, known).upper, rel=0.02)
        assert bounds(PLAN, sampled).lower <= bounds(PLAN, known).lower

    def test_only_misses(self) -> None:
        found = bounds(PLAN, caught(0, {0.1: 50}))
        assert found.state == "broken"
        assert found.upper == 1.0

    def test_a_probability_below_the_plans_is_refused(self) -> None:
        with pytest.raises(ValueError, match="below"):
            bounds(PLAN, caught(10, {0.05: 1}))

    @pytest.mark.parametrize("wrong", [(0.0, 0.05, 0.1, 0.1), (0.01, 1.0, 0.1, 0.1), (0.01, 0.05, 0.2, 0.1)])
    def test_a_plan_that_makes_no_sense_is_refused(self, wrong: tuple[float, float, float, float]) -> None:
        with pytest.raises(ValueError, match="p_min"):
            AuditPlan(*wrong)


def ever_wrong(
    plan: AuditPlan, weights: list[float], rates: list[float], p: list[float], runs: int, positives: int, by_coin: bool
) -> tuple[int, int]:
    """How many of `runs` audits had, after any of their `positives`, a lower bound above the true miss rate, and how
    many an upper bound below it. Positives come in kinds: `weights` of each, missed at `rates`, audited with `p`; what
    was caught is known of all, or of those that the coin picks."""
    random = np.random.default_rng(4)
    truth = float(np.dot(weights, rates))
    too_high, too_low = 0, 0
    for _ in range(runs // 100):
        kind = random.choice(len(weights), (100, positives), p=weights)
        missed = random.random((100, positives)) < np.take(rates, kind)
        picked = random.random((100, positives)) < np.take(p, kind)

        def counted(which: np.ndarray, kind: np.ndarray = kind) -> np.ndarray:
            return np.stack([(which & (kind == k)).cumsum(axis=1) for k in range(len(p))], axis=-1)

        levels, misses, hits = np.array(p), counted(missed & picked), counted(~missed & picked)
        if not by_coin:
            all_hits = (~missed).cumsum(axis=1)[..., None]
            levels, misses = np.append(levels, 1.0), np.concatenate([misses, 0 * all_hits], axis=-1)
            hits = np.concatenate([0 * hits, all_hits], axis=-1)
        rich = -math.log(plan.delta)
        too_high += int((log_wealth_above(plan, truth, misses, levels, hits) > rich).any(axis=1).sum())
        too_low += int((log_wealth_below(plan, truth, misses, levels, hits) > rich).any(axis=1).sum())
    return too_high, too_low


class TestAnytime:
    """`lower > r` just when K(r) > 1/δ, since K falls: so the bound is ever wrong just when the wealth at the truth
    ever passes 1/δ."""

    runs = 1500

    @pytest.mark.parametrize("by_coin", [False, True])
    @pytest.mark.parametrize("rate", [0.02, 0.2])
    def test_one_p(self, rate: float, by_coin: bool) -> None:
        plan = AuditPlan(alpha=0.01, delta=0.1, p_min=0.1, p_ref=0.1)
        for wrong in ever_wrong(plan, [1.0], [rate], [0.1], self.runs, 1500, by_coin):
            assert wrong <= at_most(plan.delta, self.runs)

    @pytest.mark.parametrize("by_coin", [False, True])
    def test_p_that_grows_with_the_score_as_does_the_miss_rate(self, by_coin: bool) -> None:
        plan = AuditPlan(alpha=0.01, delta=0.1, p_min=0.05, p_ref=0.2)
        high, low = ever_wrong(plan, [0.6, 0.3, 0.1], [0.01, 0.05, 0.4], [0.05, 0.2, 0.8], self.runs, 1500, by_coin)
        assert high <= at_most(plan.delta, self.runs)
        assert low <= at_most(plan.delta, self.runs)
        assert high + low > 0  # or else it bounds nothing

    @given(st.integers(0, 400), st.integers(0, 30), st.floats(0.001, 0.9))
    def test_the_bounds_say_what_the_wealth_says(self, hits: int, missed: int, m: float) -> None:
        found = bounds(PLAN, caught(hits, {0.1: missed}))
        counts = np.array([missed, 0]), np.array([0.1, 1.0]), np.array([0, hits])
        above, below = log_wealth_above(PLAN, m, *counts), log_wealth_below(PLAN, m, *counts)
        if abs(above - math.log(20)) > 1e-6:
            assert (found.lower > m) == (above > math.log(20))
        if abs(below - math.log(20)) > 1e-6:
            assert (found.upper < m) == (below > math.log(20))


class TestCoin:
    def test_its_share_is_p_and_it_is_even(self) -> None:
        tosses = np.array([coin(b"key", f"door/01K/{seq}") for seq in range(20_000)])
        assert tosses.min() >= 0 and tosses.max() < 1
        assert chisquare(np.histogram(tosses, 20, (0, 1))[0]).pvalue > 1e-4
        for p in (0.01, 0.1, 0.5):
            assert binom.ppf(1e-4, 20_000, p) <= (tosses < p).sum() <= at_most(p, 20_000)

    def test_it_knows_nothing_of_stream_order_or_neighbours(self) -> None:
        tosses = np.array([[coin(b"key", f"{stream}/e/{seq}") for seq in range(3000)] for stream in ("a", "b")])
        for one, other in ((tosses[0], tosses[1]), (tosses[0, 1:], tosses[0, :-1]), (tosses[0], np.arange(3000))):
            assert abs(np.corrcoef(one, other)[0, 1]) < 4 / math.sqrt(3000)

    def test_the_same_unit_the_same_toss_and_another_key_another(self) -> None:
        assert coin(b"key", "a/b/1") == coin(b"key", "a/b/1")
        assert coin(b"key", "a/b/1") != coin(b"yek", "a/b/1")


class TestDrift:
    plan = AuditPlan(alpha=0.2, delta=0.05, p_min=0.5, p_ref=0.5)

    def news(self, random: np.random.Generator, rate: float, positives: int) -> Tally:
        missed = int(random.binomial(positives, rate))
        return caught(positives - missed, {0.5: int(random.binomial(missed, 0.5))})

    def test_a_rate_of_alpha_alarms_no_sooner_than_after_its_patience_on_average(self) -> None:
        random = np.random.default_rng(5)
        patience, cap, epochs = 10.0, 40, []
        for _ in range(150):
            drift = Drift(self.plan, patience)
            while drift.epochs < cap and not drift.add(self.news(random, 0.2, 2)):
                pass
            epochs.append(drift.epochs)
        assert np.mean(epochs) >= patience  # capped, so the true mean is longer still
        assert min(epochs) < cap  # it can alarm at all

    def test_it_notices_a_change_after_a_long_good_time(self) -> None:
        random = np.random.default_rng(6)
        drift = Drift(self.plan, 100.0)
        for _ in range(500):
            assert not drift.add(self.news(random, 0.02, 10))
        began = drift.epochs
        while not drift.add(self.news(random, 0.6, 5)):
            pass
        assert drift.epochs - began < 20

    def test_it_survives_a_restart(self) -> None:
        random = np.random.default_rng(7)
        one = Drift(self.plan, 50.0)
        assert json.loads(json.dumps(one.to_document()))["epochs"] == 0
        for _ in range(20):
            one.add(self.news(random, 0.1, 3))
        other = Drift.from_document(self.plan, 50.0, json.loads(json.dumps(one.to_document())))
        for _ in range(5):
            news = self.news(random, 0.3, 3)
            assert one.add(news) == other.add(news)
        assert one.to_document() == other.to_document()

    def test_an_epoch_has_one_over_p_alpha_positives(self) -> None:
        drift = Drift(self.plan, 1e9)
        drift.add(caught(9))
        assert drift.epochs == 1
        drift.add(caught(1))
        assert drift.epochs == 2
        drift.add(caught(25))
        assert (drift.epochs, drift.positives) == (4, 5.0)


class TestOutlook:
    def test_the_figures_that_are_known(self) -> None:
        """Twice α at α = 1 %: about 8,000 audited exits at 10 % positives, 85,000 at 1 %."""
        assert Outlook(PLAN, 0.1, 0.9).to_notice() == pytest.approx(8000, rel=0.15)
        assert Outlook(PLAN, 0.01, 0.99).to_notice() == pytest.approx(85_000, rel=0.15)
        assert Outlook(PLAN, 0.1, 0.9).to_confirm() == pytest.approx(4.5 * 0.9 / (0.1 * 0.01), rel=0.02)

    def test_that_many_confirm_and_a_few_less_do_not(self) -> None:
        audits = Outlook(PLAN, 0.1, 0.9).to_confirm()
        positives = audits / 0.9 / PLAN.p_ref * 0.1
        assert bounds(PLAN, caught(int(1.01 * positives))).state == "confirmed"
        assert bounds(PLAN, caught(int(0.97 * positives))).state == "unproven"

    def test_that_many_notice_in_about_half_of_all_cases(self) -> None:
        random = np.random.default_rng(8)
        positives = int(Outlook(PLAN, 0.1, 0.9).to_notice() / 0.9 / PLAN.p_ref * 0.1)
        missed = random.random((400, positives)) < 2 * PLAN.alpha
        found = (missed & (random.random(missed.shape) < PLAN.p_ref)).cumsum(axis=1)
        at = np.arange(0, positives, 10)
        hits = (~missed).cumsum(axis=1)[:, at]
        misses = np.stack([found[:, at], 0 * hits], axis=-1)
        wealth = log_wealth_above(
            PLAN, PLAN.alpha, misses, np.array([PLAN.p_ref, 1.0]), np.stack([0 * hits, hits], axis=-1)
        )
        assert 0.4 < (wealth >= math.log(20)).any(axis=1).mean() < 0.6

    def test_what_hardly_can_be_noticed_costs_no_memory_and_says_so(self) -> None:
        hardly = Outlook(AuditPlan(0.5, 0.05, 0.001, 0.001), 0.1, 0.9)
        tracemalloc.start()
        try:
            assert hardly.to_notice(1.001) is None
            assert tracemalloc.get_traced_memory()[1] < 100 << 20
        finally:
            tracemalloc.stop()

    def test_in_words(self) -> None:
        words = Outlook(PLAN, 0.1, 0.9).words(units_per_s=200)
        assert "to confirm at most 1.00% takes about 4,1" in words
        assert "minutes" in words
        assert [plain_time(s) for s in (30, 600, 9000, 1e6)] == ["30 seconds", "10 minutes", "2 hours", "12 days"]
