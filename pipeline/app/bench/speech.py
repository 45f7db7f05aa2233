"""Speech that nobody said, for benches: espeak-ng's, and where in it the words are."""

from __future__ import annotations

import shutil
import subprocess
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.errors import MissingPart
from pipeline.core.records import Array
from pipeline.core.sounds import read_sound

RATE = 16_000
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_QUIET = 0.02  # of full scale: where a word begins and ends


@dataclass(frozen=True, slots=True)
class Talk:
    """float32 `[n]`, `RATE` a second; when each word begins and ends, seconds."""

    samples: Array
    words: tuple[tuple[float, float], ...]


def talk(folder: Path, seconds: float, share: float, seed: int = 0) -> Talk:
    """Words one by one over a faint hiss; about `share` of the time somebody speaks. Raises `MissingPart`."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 1e-3, round(seconds * RATE)).astype(np.float32)
    spoken = [_spoken(folder, word) for word in _WORDS]
    words: list[tuple[float, float]] = []
    at = 0.5
    while True:
        word = spoken[int(rng.integers(len(spoken)))]
        length = len(word) / RATE
        if at + length + 1 > seconds:
            return Talk(samples, tuple(words))
        first = round(at * RATE)
        samples[first : first + len(word)] += word
        words.append((at, at + length))
        at += length + float(rng.uniform(0.5, 1.5)) * length * (1 - share) / share


def save(talk: Talk, path: Path) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(talk.samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def _spoken(folder: Path, word: str) -> Array:
    path = folder / f"{word}.wav"
    if not path.exists():
        program = shutil.which("espeak-ng")
        if program is None:
            raise MissingPart("speech is made by espeak-ng: apt-get install espeak-ng", "bench")
        subprocess.run([program, "-v", "en", "-w", str(path), word], check=True, capture_output=True)  # noqa: S603
    samples = read_sound(path, RATE)
    loud = np.flatnonzero(np.abs(samples) > _QUIET * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]
