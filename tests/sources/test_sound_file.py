"""Sound from files, by itself and beside pictures."""

from __future__ import annotations

import itertools
import logging
import struct
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import InputError
from pipeline.core.records import Array, Chunk, Item
from pipeline.core.resampling import Resampler
from pipeline.core.sound import SoundSpec
from sources.file import File
from sources.hearing import SoundTrack
from sources.sound_file import SoundFile
from tests.contracts import source_suite as suite
from tests.sources.sounds import film, sound_file, tone

SPEC = SoundSpec(16_000, 8_000)


def fresh(items: list[Item]) -> Array:
    return np.concatenate([c.payload.sample() for c in suite.chunks(items)])


def of(items: list[Item], stream: str) -> list[Item]:
    return [item for item in items if item.stream == stream]


def test_contract(tmp_path: Path) -> None:
    plan = SoundFile(path=sound_file(tmp_path / "a.wav", tone(2.05, 44_100, channels=2), 44_100)).fitted(SPEC)
    suite.check_plan(plan)
    suite.check_closing(plan)
    _, items = suite.read(plan)
    suite.check_items(items, received=21)
    suite.check_replay(plan)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.wav", "pcm_s16le", 8_000),
        ("a.flac", "flac", 48_000),
        ("a.mp3", "libmp3lame", 44_100),
        ("a.ogg", "libopus", 24_000),
        ("a.opus", "libopus", 48_000),
        ("a.m4a", "aac", 32_000),
    ],
)
def test_formats(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    plan = SoundFile(path=sound_file(tmp_path / name, tone(2, rate), rate, codec), hop_s=0.05)
    _, items = suite.read(plan)
    suite.check_items(items)
    samples = fresh(items)
    assert abs(len(samples) - 32_000) < 1_700 and len(samples) >= 32_000  # what a codec pads, it may keep
    middle = samples[8_000:24_000]
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / 2**0.5, rel=0.05)
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) == pytest.approx(440, abs=1)


def test_a_file_heard_in_packets_is_the_file_resampled_at_once(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 44_100)).astype(np.float32)
    _, items = suite.read(SoundFile(path=sound_file(tmp_path / "a.wav", samples, 44_100)))
    whole = Resampler(44_100, 16_000)
    assert np.array_equal(fresh(items), np.concatenate((whole.push(samples[0]), whole.flush())))


def test_what_cannot_be_heard(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no sound at all\n" * 100)
    silent = film(tmp_path / "silent.mp4", None, 0)
    header = sound_file(tmp_path / "header.wav", tone(1, 16_000), 16_000)
    header.write_bytes(header.read_bytes()[: header.read_bytes().index(b"data") + 8])
    for path, words in (
        (tmp_path / "absent.wav", "no such file"),
        (tmp_path / "text.wav", "cannot be read as sound"),
        (silent, "it has no sound track"),
        (header, "holds no sound"),
    ):
        with pytest.raises(InputError, match=words):
            suite.read(SoundFile(path=path))


def test_a_sound_file_is_no_film(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no video in it, just sound"):
        suite.read(File(path=sound_file(tmp_path / "a.wav", tone(0.2, 16_000), 16_000)))


def test_a_file_with_nan_in_it(tmp_path: Path) -> None:
    samples = tone(1, 16_000)
    samples[0, 5_000] = np.nan
    _, items = suite.read(SoundFile(path=sound_file(tmp_path / "a.wav", samples, 16_000)))
    suite.check_items(items, received=10, intact=False)
    assert suite.gaps(items, "damaged") == 1


def test_a_cut_off_file_is_heard_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = sound_file(tmp_path / "a.flac", tone(2, 16_000), 16_000, "flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) * 2 // 3])
    _, items = suite.read(SoundFile(path=tmp_path / "cut.flac"))
    suite.check_items(items, intact=False)
    assert 10 <= len(suite.chunks(items)) <= 15


def test_damaged_packets_are_counted_and_no_window_spans_them(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "a.m4a", tone(4, 16_000), 16_000, "aac")
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    data[middle : middle + 200] = b"\xff" * 200
    path.write_bytes(data)
    _, items = suite.read(SoundFile(path=path, window_s=0.3))
    suite.check_items(items, intact=False)
    assert suite.gaps(items, "undecoded") >= 1
    assert len(suite.chunks(items)) >= 30


def test_in_real_time_and_over_and_over(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "a.wav", tone(0.6, 16_000), 16_000)
    plan = SoundFile(path=path, realtime=True, loop=True)
    assert plan.paced and not SoundFile(path=path).paced
    began = time.monotonic()
    _, items = suite.read(plan, most=13)
    assert 1.0 < time.monotonic() - began < 3.0
    ends = [c.pts_ns + c.duration_ns for c in suite.chunks(items)]
    assert ends == sorted(ends) and ends[-1] == pytest.approx(1.3e9, abs=1e8)


def test_what_a_model_hears_is_filled_in_and_what_does_not_fit_is_said(tmp_path: Path) -> None:
    plan = SoundFile(path=tmp_path / "a.wav")
    assert (plan.hears.rate, plan.hears.samples) == (16_000, 16_000)
    fitted = plan.fitted(SoundSpec(32_000, 48_000))
    assert (fitted.rate, fitted.window_s, fitted.hears.samples) == (32_000, 1.5, 48_000)
    with pytest.raises(InputError, match="leave `rate` out"):
        SoundFile(path=tmp_path / "a.wav", rate=8_000).fitted(SPEC)
    with pytest.raises(InputError, match="leaves out sound"):
        SoundFile(path=tmp_path / "a.wav", hop_s=0.7).fitted(SPEC)
    with pytest.raises(ValueError, match="leaves out sound"):
        SoundFile(path=tmp_path / "a.wav", hop_s=0.7, window_s=0.5)


# Beside pictures.


@pytest.mark.parametrize(("name", "codec", "rate"), [("a.mp4", "aac", 44_100), ("a.mkv", "libopus", 48_000)])
def test_one_reader_two_streams_one_clock(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    click = np.zeros((2, 2 * rate), np.float32)
    click[:, rate : rate + rate // 100] = 0.8  # 10 ms, a second behind the beginning
    plan = File(path=film(tmp_path / name, click, rate, codec=codec), sound=SoundTrack(hop_s=0.02))
    assert list(plan.tracks) == ["sound"]
    suite.check_plan(plan)
    suite.check_closing(plan)
    _, items = suite.read(plan)
    pictures, heard = of(items, suite.STREAM), of(items, f"{suite.STREAM}.sound")
    assert len(pictures) + len(heard) == len(items)
    suite.check_items(pictures, received=50)
    suite.check_items(heard, stream=f"{suite.STREAM}.sound")
    loud = [c for c in suite.chunks(heard) if np.abs(c.payload.sample()).max() > 0.4]
    assert loud and abs(loud[0].pts_ns + loud[0].duration_ns - 1_010_000_000) <= 30_000_000
    assert suite.chunks(heard)[-1].pts_ns + suite.chunks(heard)[-1].duration_ns == pytest.approx(2e9, abs=6e7)
    epochs = {item.epoch for item in items if isinstance(item, Chunk)}
    assert len(epochs) == 1
    _, again = suite.read(plan)
    assert [(c.seq, c.pts_ns, suite.shown(c)) for c in suite.chunks(items)] == [
        (c.seq, c.pts_ns, suite.shown(c)) for c in suite.chunks(again)
    ]


def test_both_tracks_go_on_together_in_a_loop(tmp_path: Path) -> None:
    plan = File(path=film(tmp_path / "a.mp4", tone(2, 16_000), 16_000), sound=SoundTrack(hop_s=0.1), loop=True)
    _, items = suite.read(plan, most=180)
    for stream, period in ((suite.STREAM, 4e7), (f"{suite.STREAM}.sound", 1e8)):
        ends = [c.pts_ns + c.duration_ns for c in suite.chunks(of(items, stream))]
        assert ends == sorted(ends) and ends[-1] > 3e9
        assert max(b - a for a, b in itertools.pairwise(ends)) < 2.5 * period


def test_a_film_without_sound_whose_sound_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it has no sound track"):
        File(path=film(tmp_path / "a.mp4", None, 0), sound=SoundTrack()).open(suite.STREAM)


def test_an_empty_track_harms_no_picture(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = film(tmp_path / "a.mkv", np.zeros((1, 0), np.float32), 16_000, codec="pcm_s16le")
    with caplog.at_level(logging.WARNING):
        _, items = suite.read(File(path=path, sound=SoundTrack()))
    suite.check_items(items, received=50)
    assert "its sound track is empty" in caplog.text


def test_what_is_the_readers_is_no_setting_of_a_track() -> None:
    with pytest.raises(ValueError, match="`overflow` is the source's to say"):
        SoundTrack(overflow="block")


def test_a_wav_file_that_lies_about_its_rate(tmp_path: Path) -> None:
    data = bytearray(sound_file(tmp_path / "a.wav", tone(1, 16_000), 16_000, "pcm_s16le").read_bytes())
    data[24:28] = struct.pack("<I", 0)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(InputError):
        suite.read(SoundFile(path=tmp_path / "a.wav"))
