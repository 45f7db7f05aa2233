from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.gates.duplicate import Duplicate
from detectors.gates.motion import Motion
from pipeline.core.payloads import FrameImage
from pipeline.core.records import Array
from tests.contracts.gate_suite import GateSuite, frozen, scene

BIKES = Path(__file__).parents[1] / "data" / "bikes.mp4"


class TestMotionContract(GateSuite):
    kind = "motion"

    def plan(self) -> Any:
        return Motion()


class TestDuplicateContract(GateSuite):
    kind = "duplicate"

    def plan(self) -> Any:
        return Duplicate()


class TestTolerantDuplicateContract(GateSuite):
    kind = "duplicate"

    def plan(self) -> Any:
        return Duplicate(tolerance=1.5)


def noisy(luma: Array, deviation: float, seed: int) -> Array:
    return frozen(luma + np.random.default_rng(seed).normal(0, deviation, luma.shape))


def with_person(luma: Array, contrast: int, top: int = 50, left: int = 100, size: tuple[int, int] = (36, 18)) -> Array:
    """A brighter rectangle, by default of 2 % of a 135×240 sample; `size` is its height and width."""
    out, (tall, wide) = luma.astype(int), size
    out[top : top + tall, left : left + wide] += contrast
    return frozen(out)


@pytest.mark.parametrize("deviation", [0, 2, 5, 10, 20])
def test_a_noisy_but_still_scene_does_not_pass(deviation: float) -> None:
    gate = Motion().start()
    gate.judged(noisy(scene(), deviation, 0), 0)
    assert not any(gate.changed(noisy(scene(), deviation, seed), seed) for seed in range(1, 100))


@pytest.mark.parametrize(("deviation", "contrast"), [(0, 8), (5, 15), (10, 20), (20, 40)])
def test_a_small_person_passes_through_the_noise(deviation: float, contrast: int) -> None:
    gate = Motion().start()
    gate.judged(noisy(scene(), deviation, 0), 0)
    for seed in range(1, 100):  # wherever they stand on the grid
        person = with_person(scene(), contrast, top=seed, left=2 * seed)
        assert gate.changed(noisy(person, deviation, seed), seed)


def test_a_change_of_half_the_picture_is_not_taken_for_noise() -> None:
    gate = Motion().start()
    gate.judged(scene(), 0)
    assert gate.changed(with_person(scene(), 10, top=0, left=0, size=(135, 120)), 1)
    assert gate.changed(scene(7), 2)  # another scene altogether: every cell differs, each by something else


def test_slow_light_adds_up_against_the_judged_frame_and_starts_anew() -> None:
    gate = Motion().start()
    gate.judged(scene(), 0)
    passed = []
    for step in range(1, 61):  # half a level a frame
        luma = frozen(scene() + step // 2)
        if gate.changed(luma, step):
            passed.append(step)
            gate.judged(luma, step)
    assert passed == [14, 28, 42, 56]


def test_the_options_mean_what_they_say() -> None:
    person = with_person(scene(), 20)
    for plan, passes in ((Motion(threshold=25), False), (Motion(cells=2), True), (Motion(cells=400), False)):
        gate = plan.start()
        gate.judged(scene(), 0)
        assert gate.changed(person, 1) is passes
    deaf = Motion(sigmas=0).start()
    deaf.judged(noisy(scene(), 20, 0), 0)
    assert any(deaf.changed(noisy(scene(), 20, seed), seed) for seed in range(1, 20))


@settings(deadline=None)
@given(
    low=st.integers(0, 55),
    more=st.integers(0, 55),
    corner=st.tuples(st.integers(0, 100), st.integers(0, 220)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 60)),
)
def test_more_contrast_never_passes_less(low: int, more: int, corner: tuple[int, int], size: tuple[int, int]) -> None:
    gate = Motion().start()
    gate.judged(scene(), 0)
    faint = with_person(scene(), low, *corner, size)
    strong = with_person(scene(), low + more, *corner, size)
    assert gate.changed(faint, 1) <= gate.changed(strong, 2)


@settings(deadline=None)
@given(tolerance=st.floats(0, 20), apart=st.integers(0, 40))
def test_the_tolerance_is_the_mean_difference(tolerance: float, apart: int) -> None:
    gate = Duplicate(tolerance=tolerance).start()
    gate.judged(frozen(np.full((10, 10), 100)), 0)
    for sign in (-1, 1):
        assert gate.changed(frozen(np.full((10, 10), 100 + sign * apart)), 1) is (apart > tolerance)


def encoded(frames: list[Array], path: Path) -> Path:
    """Luma planes as an H.264 file, as a camera would send them."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "28"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape, "yuv420p"
        for plane in frames:
            frame = av.VideoFrame.from_ndarray(np.repeat(plane[..., None], 3, axis=2), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def lumas(path: Path) -> Iterator[Array]:
    with av.open(path) as container:
        for frame in container.decode(video=0):
            yield FrameImage(frame).luma()


def passed(plan: Motion | Duplicate, path: Path) -> list[int]:
    """The frames that pass when each one that does is judged."""
    gate, numbers = plan.start(), []
    for number, luma in enumerate(lumas(path)):
        if gate.changed(luma, number):
            gate.judged(luma, number)
            numbers.append(number)
    return numbers


def test_real_traffic_passes() -> None:
    assert len(passed(Motion(), BIKES)) > 0.9 * sum(1 for _ in lumas(BIKES))


def test_a_real_scene_that_stands_still_under_noise_passes_once(tmp_path: Path) -> None:
    with av.open(BIKES) as container:
        first = next(container.decode(video=0)).reformat(format="gray").to_ndarray()
    still = [noisy(first, 6, seed) for seed in range(30)]
    still[20:] = [with_person(frame, 60, 100, 300, (80, 30)) for frame in still[20:]]
    assert passed(Motion(), encoded(still, tmp_path / "still.mp4")) == [0, 20]


def test_an_encoded_still_scene_is_a_duplicate(tmp_path: Path) -> None:
    with av.open(BIKES) as container:
        first = next(container.decode(video=0)).reformat(format="gray").to_ndarray()
    path = encoded([first] * 30, tmp_path / "still.mp4")
    assert len(passed(Duplicate(), path)) < 10
    assert passed(Duplicate(tolerance=1.0), path) == [0]
