"""Windows of sound: no seam at the borders of chunks, no guess on what is no number, time by the count of samples."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.core.records import Array, Chunk, Gap, Item
from pipeline.core.resampling import Resampler
from pipeline.core.sound import Sound
from sources.hearing import HearingSettings, SoundTrack
from sources.sound_file import SoundFile
from sources.sound_windows import SoundWindows, as_float
from tests.contracts import source_suite as suite

RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000)
SECOND = 1_000_000_000


def noise(samples: int, seed: int = 0, channels: int = 1) -> Array:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (channels, samples)).astype(np.float32)


def heard(pieces: Sequence[tuple[Array, int]], **told: Any) -> list[Item]:
    windows = SoundWindows(HearingSettings(**told), suite.STREAM, "E" * 26)
    items = [item for piece, rate in pieces for item in windows.feed(piece, rate, 1, 2 * 10**18)]
    return items + windows.finish()


def cut(samples: Array, cuts: Sequence[int]) -> Iterator[Array]:
    borders = [0, *sorted(n % (samples.shape[1] + 1) for n in cuts), samples.shape[1]]
    for first, last in itertools.pairwise(borders):
        yield samples[:, first:last]


def fresh(items: Sequence[Item]) -> Array:
    """All that is new in the windows, one behind the other."""
    pieces = [c.payload.sample() for c in suite.chunks(items)]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def told(items: Sequence[Item]) -> list[Any]:
    return [
        (i.seq, i.pts_ns, i.duration_ns, i.payload.samples.tobytes())
        if isinstance(i, Chunk) and isinstance(i.payload, Sound)
        else i
        for i in items
    ]


@settings(deadline=None, max_examples=60)
@given(
    rate_in=st.sampled_from(RATES),
    rate=st.sampled_from((8000, 16000, 32000)),
    length=st.integers(0, 9000),
    cuts=st.lists(st.integers(0, 10_000), max_size=30),
    hop_s=st.sampled_from((0.01, 0.025, 0.1)),
    bad=st.lists(st.integers(0, 9000), max_size=3),
)
def test_however_it_is_cut_the_windows_are_the_same(
    rate_in: int, rate: int, length: int, cuts: list[int], hop_s: float, bad: list[int]
) -> None:
    samples = noise(length)
    for place in bad:
        samples[:, place % max(1, length) : place % max(1, length) + 1] = np.nan
    plan = {"rate": rate, "window_s": 0.1, "hop_s": hop_s}
    whole = heard([(samples, rate_in)], **plan)
    pieces = heard([(piece, rate_in) for piece in cut(samples, cuts)], **plan)
    assert told(pieces) == told(whole)
    suite.check_items(whole, intact=not bad)


@settings(deadline=None, max_examples=40)
@given(
    rate_in=st.sampled_from(RATES),
    rate=st.sampled_from((8000, 16000, 32000)),
    length=st.integers(0, 20_000),
    cuts=st.lists(st.integers(0, 20_000), max_size=30),
)
def test_what_is_new_in_the_windows_is_the_whole_resampled_once(
    rate_in: int, rate: int, length: int, cuts: list[int]
) -> None:
    samples = noise(length)
    whole = Resampler(rate_in, rate)
    at_once = np.concatenate((whole.push(samples[0]), whole.flush()))
    assert whole.given == len(at_once) == length * rate // rate_in
    pieces = heard([(piece, rate_in) for piece in cut(samples, cuts)], rate=rate, window_s=0.3, hop_s=0.05)
    assert fresh(pieces).tobytes() == np.clip(at_once, -1, 1).tobytes()


def test_a_tone_stays_the_tone_that_it_was() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100).astype(np.float32)[None] * 0.5
    got = fresh(heard([(piece, 44_100) for piece in cut(tone, range(7, 44_100, 1019))], rate=16_000))
    want = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(got - want)[100:-100].max() < 1e-3


def test_windows_slide_by_a_hop_and_end_with_the_newest_sample() -> None:
    ramp = np.arange(16_000, dtype=np.float32)[None] / 16_000
    items = heard([(ramp, 16_000)], rate=16_000, window_s=0.3, hop_s=0.1)
    got = suite.chunks(items)
    assert [c.pts_ns for c in got] == [max(0, n - 3) * SECOND // 10 for n in range(1, 11)]
    assert [c.pts_ns + c.duration_ns for c in got] == [n * SECOND // 10 for n in range(1, 11)]
    assert [c.seq for c in got] == list(range(10))
    for n, chunk in enumerate(got, 1):
        first = max(0, n - 3) * 1600
        assert np.array_equal(chunk.payload.samples, ramp[0, first : n * 1600])
        assert np.array_equal(chunk.payload.sample(), ramp[0, (n - 1) * 1600 : n * 1600])
        assert chunk.payload.start_ns == chunk.pts_ns


def test_the_last_hop_is_as_long_as_it_is() -> None:
    items = heard([(noise(1700), 16_000)], rate=16_000, window_s=0.3, hop_s=0.1)
    assert [c.payload.fresh for c in suite.chunks(items)] == [1600, 100]
    assert len(suite.chunks(items)[-1].payload.samples) == 1700


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_hop_with_a_sample_that_is_no_number_is_a_gap_and_no_window_spans_it(value: float) -> None:
    samples = noise(16_000)
    samples[0, 5000] = value  # in the fourth of ten
    items = heard([(samples, 16_000)], rate=16_000, window_s=0.3, hop_s=0.1)
    gaps = [i for i in items if isinstance(i, Gap)]
    assert gaps == [Gap(suite.STREAM, "damaged", 1)] and items[3] == gaps[0]
    assert sum(map(suite.count, items)) == 10
    got = suite.chunks(items)
    assert [c.seq for c in got] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert got[3].pts_ns == 400_000_000 and np.array_equal(got[3].payload.samples, samples[0, 6400:8000])
    assert all(np.isfinite(c.payload.samples).all() for c in got)


def test_nothing_but_nan_is_one_gap_a_hop() -> None:
    items = heard([(np.full((1, 48_000), np.nan, np.float32), 48_000)], rate=16_000)
    assert not suite.chunks(items) and suite.gaps(items, "damaged") == 10


def test_nan_in_a_channel_that_nobody_hears_harms_nobody() -> None:
    samples = noise(1600, channels=2)
    samples[1] = np.nan
    assert suite.gaps(heard([(samples, 16_000)], rate=16_000, channel="left"), "damaged") == 0
    assert suite.gaps(heard([(samples, 16_000)], rate=16_000), "damaged") == 1


def test_clipped_samples_are_clamped_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    windows = SoundWindows(HearingSettings(rate=16_000), suite.STREAM, "E" * 26)
    with caplog.at_level(logging.WARNING):
        items = [i for _ in range(3) for i in windows.feed(noise(1600) * 2, 16_000, 1, 1)]
    assert windows.clipped == 3 * np.count_nonzero(np.abs(noise(1600) * 2) > 1)
    assert all(np.abs(c.payload.samples).max() == 1 for c in suite.chunks(items))
    assert len(caplog.records) == 1 and "clipped" in caplog.text


def test_a_rate_that_changes_goes_on_without_a_hole(caplog: pytest.LogCaptureFixture) -> None:
    def tone(rate: int) -> Array:
        return np.full((1, rate), 0.25, np.float32)

    with caplog.at_level(logging.WARNING):
        items = heard([(tone(r), r) for r in (48_000, 22_050, 48_000, 22_050)], rate=16_000, window_s=0.5)
    got = suite.chunks(items)
    assert [c.pts_ns + c.duration_ns for c in got] == [n * SECOND // 10 for n in range(1, 41)]
    assert np.abs(fresh(items)[200:-200] - 0.25).max() < 0.02
    assert all(len(c.payload.samples) == 8000 for c in got[5:])
    assert len(caplog.records) == 2, "once for each way"


@pytest.mark.parametrize(
    ("channel", "want"), [("mix", 0.25), ("left", 0.5), ("right", 0.0), (0, 0.5), (1, 0.0)], ids=str
)
def test_channels(channel: str | int, want: float) -> None:
    both = np.stack([np.full(1600, 0.5, np.float32), np.zeros(1600, np.float32)])
    assert np.allclose(fresh(heard([(both, 16_000)], rate=16_000, channel=channel)), want)


def test_one_channel_is_left_and_right_and_a_channel_that_is_not_there_is_not_judged() -> None:
    assert len(fresh(heard([(noise(1600), 16_000)], rate=16_000, channel="right"))) == 1600
    items = heard([(noise(1600), 16_000)] * 2 + [(noise(1600, 0, 6), 16_000)], rate=16_000, channel=5)
    assert suite.gaps(items, "damaged") == 2 and len(suite.chunks(items)) == 1
    assert suite.chunks(items)[0].seq == 2 and suite.chunks(items)[0].pts_ns == SECOND // 5


def test_a_hole_in_the_time_stamps_begins_anew_and_drift_does_not() -> None:
    windows = SoundWindows(HearingSettings(rate=16_000, window_s=0.5), suite.STREAM, "E" * 26)
    items: list[Item] = []
    at_ns = 7 * SECOND
    for n in range(100):  # 20 ms each, by a clock that is 1 % fast
        items += windows.feed(noise(320, n), 16_000, 1, 1, at_ns + n * 20_200_000)
    ends = [c.pts_ns + c.duration_ns for c in suite.chunks(items)]
    assert len(ends) == 20 and len(suite.chunks(items)[-1].payload.samples) == 8000
    assert abs(ends[-1] - (at_ns + 100 * 20_200_000)) < 25_000_000
    more = windows.feed(noise(320), 16_000, 1, 1, at_ns + 5 * SECOND) + windows.finish()
    assert suite.chunks(more)[-1].pts_ns == at_ns + 5 * SECOND
    assert len(suite.chunks(more)[-1].payload.samples) == 320


def test_what_was_lost_is_counted_in_hops_at_the_latest_when_sound_comes_again() -> None:
    windows = SoundWindows(HearingSettings(rate=16_000), suite.STREAM, "E" * 26)
    items = windows.feed(noise(2400), 16_000, 1, 1)
    for _ in range(12):
        items += windows.lose(20_000_000, "undecoded")
    assert suite.gaps(items, "undecoded") == 2
    items += windows.feed(noise(1600), 16_000, 1, 1) + windows.finish()
    assert suite.gaps(items, "undecoded") == 3
    assert [c.seq for c in suite.chunks(items)] == [0, 1, 5]
    assert suite.chunks(items)[-1].pts_ns == 150_000_000 + 240_000_000


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_full_scale_of_every_type(dtype: type) -> None:
    if np.issubdtype(dtype, np.integer):
        info = np.iinfo(dtype)
        given = np.array([[info.min, (info.min + info.max + 1) // 2, info.max]], dtype)
    else:
        given = np.array([[-1, 0, 1]], dtype)
    got = as_float(given)
    assert got.dtype == np.float32 and np.allclose(got, [[-1, 0, 1]], atol=0.01)


def test_a_double_beyond_all_floats_is_damage_not_a_warning() -> None:
    assert suite.gaps(heard([(np.array([[1e300] * 1600]), 16_000)], rate=16_000), "damaged") == 1


@pytest.mark.parametrize("rate", [0, 1, 10**9])
def test_a_rate_that_nobody_means_is_damage(rate: int, caplog: pytest.LogCaptureFixture) -> None:
    items = heard([(noise(1600), 16_000), (noise(60_000), rate), (noise(1600), 16_000)], rate=16_000)
    assert suite.gaps(items, "damaged") == 1 and len(suite.chunks(items)) == 2
    assert f"it claims {rate} samples" in caplog.text


@pytest.mark.parametrize("settings", [HearingSettings, SoundTrack, SoundFile])
def test_no_hop_is_left_out(settings: type[HearingSettings]) -> None:
    told = {"path": "a.wav"} if settings is SoundFile else {}
    with pytest.raises(ValidationError, match="`hop_s` says how often"):
        settings.model_validate(told | {"max_fps": 5})
