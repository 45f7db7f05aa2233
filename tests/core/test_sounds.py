"""Sound files as they are read whole."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from av.audio.resampler import AudioResampler

from pipeline.core import sounds
from pipeline.core.errors import StageError
from pipeline.core.sound import Sound, SoundSpec
from pipeline.core.sounds import BadSound, read_sound
from tests.sources.sounds import sound_file, tone


class Hesitant:
    """Hands over what it has at every third turn."""

    def __init__(self, **told: Any) -> None:
        self._inner = AudioResampler(**told)
        self._held: list[Any] = []
        self._turn = 0

    def resample(self, frame: Any) -> list[Any]:
        self._held += [one.to_ndarray() for one in self._inner.resample(frame)]
        self._turn += 1
        if frame is not None and self._turn % 3:
            return []
        held, self._held = self._held, []
        whole = np.concatenate(held, 1) if held else np.zeros((1, 0), np.float32)
        return [SimpleNamespace(to_ndarray=lambda part=part: part) for part in (whole[:, :-9], whole[:, -9:])]


@pytest.mark.parametrize("resampler", [AudioResampler, Hesitant])
def test_how_long_it_is_counts_each_part_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resampler: type) -> None:
    monkeypatch.setattr(sounds, "AudioResampler", resampler)
    monkeypatch.setattr(sounds, "_LONGEST_S", 2)
    path = sound_file(tmp_path / "fits.wav", tone(1.9, 16_000), 16_000)
    assert len(read_sound(path, 8000)) == pytest.approx(15_200, abs=64)
    path = sound_file(tmp_path / "long.wav", tone(3, 16_000), 16_000)
    with pytest.raises(BadSound, match="longer than 2 s"):
        read_sound(path, 8000)


def test_a_sound_has_no_regions() -> None:
    with pytest.raises(StageError, match="no regions"):
        Sound(np.zeros(8, np.float32), 8000, 0).view(SoundSpec(8000, 8), (0, 0, 1, 1))


def test_a_sound_whose_clock_leapt_is_heard_at_another_time() -> None:
    sound = Sound(np.zeros(8, np.float32), 8000, 5)
    sound.move(-3)
    assert sound.view(SoundSpec(8000, 8)).start_ns == 2
