"""What every gate must do. A gate's test subclasses `GateSuite`, or `SoundGateSuite`, and gives its plan."""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from detectors import GATES
from pipeline.core.contracts import GatePlan
from pipeline.core.records import Array

# a suite is there to be run by several classes, and time is not what it judges
for_each_gate = settings(suppress_health_check=[HealthCheck.differing_executors], deadline=None)
LUMA = arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)))


def scene(seed: int = 0, height: int = 135, width: int = 240) -> Array:
    """A luma sample with large structure, as of a 1080p picture; read-only, as the pipeline hands it over."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (-(-height // 9), -(-width // 8)))
    return frozen(np.kron(coarse, np.ones((9, 8)))[:height, :width])


def frozen(luma: Array) -> Array:
    out = np.clip(luma, 0, 255).astype(np.uint8)
    out.flags.writeable = False
    return out


class AnyGateSuite(ABC):
    """What holds for each of them."""

    kind: str

    @abstractmethod
    def plan(self) -> Any:
        """The gate's plan, with the options that a user gets."""

    def test_the_plan_is_picklable_frozen_and_in_the_catalogue(self) -> None:
        plan = self.plan()
        assert pickle.loads(pickle.dumps(plan)) == plan
        assert isinstance(plan, GATES.load(self.kind)) and isinstance(plan, GatePlan)
        assert plan.name == plan.start().name == self.kind
        with pytest.raises(ValidationError):
            type(plan)(nonsense=1)


class GateSuite(AnyGateSuite):
    """Of pictures. Subclass and give `plan` and its `kind` in the catalogue; pytest runs the rest."""

    def test_everything_is_new_until_something_was_judged(self) -> None:
        gate = self.plan().start()
        assert gate.changed(scene(), 0)
        assert gate.changed(scene(), 1)  # it was shed, say: nothing has been judged yet

    def test_the_reference_is_what_was_judged_not_what_was_seen(self) -> None:
        gate = self.plan().start()
        gate.judged(scene(0), 0)
        assert gate.changed(scene(1), 1)
        assert gate.changed(scene(1), 2)
        assert not gate.changed(scene(0), 3)
        gate.judged(scene(1), 4)
        assert not gate.changed(scene(1), 5)
        assert gate.changed(scene(0), 6)

    def test_it_forgets_what_was_judged(self) -> None:
        gate = self.plan().start()
        gate.judged(scene(), 0)
        assert not gate.changed(scene(), 1)
        gate.forget()
        assert gate.changed(scene(), 2)
        gate.judged(scene(), 3)
        assert not gate.changed(scene(), 4)

    def test_another_size_is_a_change(self) -> None:
        gate = self.plan().start()
        gate.judged(frozen(np.full((90, 160), 90)), 0)
        for shape in ((45, 80), (160, 90), (90, 161), (1, 1)):
            assert gate.changed(frozen(np.full(shape, 90)), 1)

    def test_what_it_was_shown_may_be_overwritten(self) -> None:
        gate, buffer = self.plan().start(), scene(0).copy()
        gate.judged(buffer, 0)
        buffer[:] = scene(1)
        assert not gate.changed(scene(0), 1)

    def test_gates_of_one_plan_share_nothing(self) -> None:
        plan = self.plan()
        one, other = plan.start(), plan.start()
        one.judged(scene(), 0)
        assert not one.changed(scene(), 1)
        assert other.changed(scene(), 1)

    @for_each_gate
    @given(luma=LUMA)
    def test_the_same_again_is_never_a_change(self, luma: Array) -> None:
        gate = self.plan().start()
        gate.judged(luma, 0)
        assert not gate.changed(luma, 1)
        assert not gate.changed(luma.copy(), 2)

    @for_each_gate
    @given(luma=LUMA)
    def test_what_is_shown_is_left_as_it_is(self, luma: Array) -> None:
        before, gate = luma.copy(), self.plan().start()
        gate.judged(luma, 0)
        gate.changed(luma, 1)
        assert np.array_equal(luma, before)

    @for_each_gate
    @given(luma=LUMA)
    def test_from_black_to_white_is_always_a_change(self, luma: Array) -> None:
        gate = self.plan().start()
        gate.judged(np.zeros_like(luma), 0)
        assert gate.changed(np.full_like(luma, 255), 1)


SAMPLES = arrays(np.float32, st.integers(1, 5_000), elements=st.floats(-1, 1, width=32))


class SoundGateSuite(AnyGateSuite):
    """Of sound at 16 kHz. It finds that there is nothing to judge, and compares with nothing."""

    @abstractmethod
    def worth_it(self) -> Array:
        """Half a second that it lets pass: float32 `[8000]`."""

    def test_it_carries_no_verdict_and_holds_back_silence(self) -> None:
        gate = self.plan().start()
        assert not gate.carries
        assert not any(gate.changed(np.zeros(1_600, np.float32), n) for n in range(50))

    def test_gates_of_one_plan_share_nothing(self) -> None:
        plan, sound = self.plan(), self.worth_it()
        one, other = plan.start(), plan.start()
        assert one.changed(sound, 0)
        assert not other.changed(np.zeros(1_600, np.float32), 1)
        assert one.changed(np.zeros(1_600, np.float32), 1), "a word may be going on"

    def test_it_forgets_what_it_heard(self) -> None:
        gate = self.plan().start()
        for _ in range(2):
            assert gate.changed(self.worth_it(), 0)
            gate.forget()
            assert not gate.changed(np.zeros(1_600, np.float32), 1), "no word goes on over there"

    def test_a_verdict_teaches_it_nothing(self) -> None:
        one, other, sound = self.plan().start(), self.plan().start(), self.worth_it()
        one.judged(sound, 0)
        for n in range(0, len(sound), 800):
            piece = sound[n : n + 800]
            assert one.changed(piece, n) == other.changed(piece, n)

    @for_each_gate
    @given(samples=SAMPLES)
    def test_any_sound_is_heard_and_left_as_it_is(self, samples: Array) -> None:
        samples.flags.writeable = False
        gate = self.plan().start()
        assert gate.changed(samples, 0) in {True, False}
        assert gate.changed(samples, 1) in {True, False}
