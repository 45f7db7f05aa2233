"""Composed windows to train word spotters on: words, parts of words, noise, silence and sounds that are no words.

Everything is numpy and a pure function of an rng and of the words given. Samples are float32 at 8 kHz, about -1..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from pipeline.core.records import Array as Floats

RATE = 8000
_TRIES = 50
_BLOCK = 80  # samples of an energy reading: 10 ms


@dataclass(frozen=True)
class Word:
    """`samples` hold a word that sounds from `first` to `last` (one past), there at a root mean square of 0.1, and what
    is around it in the clip: a weak consonant, a breath. `label` 0..C-1."""

    samples: Floats
    label: int
    first: int
    last: int
    reversible: bool = True  # backwards it is another sound, and none of the words


@dataclass(frozen=True)
class Shape:
    """Of a window and its answers; see `nets`. Frame t's centre is sample `step * t + centre`."""

    samples: int = 8192
    step: int = 320
    centre: int = 248
    frames: int = 25


def voiced(samples: Floats, below: float = 35.0, margin: int = 160) -> tuple[int, int]:
    """First and last sample (one past) of what is sounding in a clip of one word: 10 ms blocks less than `below` dB
    under the loudest and above its own floor, isolated clicks shorter than 30 ms at the borders not counted, with
    `margin` samples to both sides."""
    count = max(1, len(samples) // _BLOCK)
    if len(samples) < _BLOCK:
        return 0, len(samples)
    blocks = samples[: count * _BLOCK].reshape(count, _BLOCK).astype(np.float64)
    blocks = blocks - blocks.mean(1, keepdims=True)
    level = 10 * np.log10(np.mean(blocks**2, axis=1) + 1e-9)
    floor = np.percentile(level, 5)
    least = max(level.max() - below, min(floor + 6.0, level.max() - 12.0))
    on = level >= least
    runs = _runs(on)
    kept = [run for run in runs if run[1] - run[0] >= 3] or runs
    return max(0, kept[0][0] * _BLOCK - margin), min(len(samples), kept[-1][1] * _BLOCK + margin)


def _runs(on: Floats) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def word(samples: Floats, label: int, around: int = 1000, *, reversible: bool = True) -> Word:
    """A clip of one word, cut to what sounds and up to `around` samples to both sides (weak fricatives are often below
    any threshold), faded in and out over 5 ms."""
    first, last = voiced(samples)
    begin, end = max(0, first - around), min(len(samples), last + around)
    part = samples[begin:end].astype(np.float32)
    part = part - part.mean()
    first, last = first - begin, last - begin
    part *= 0.1 / (np.sqrt(np.mean(part[first:last] ** 2)) + 1e-6)
    ramp = np.linspace(0, 1, min(40, len(part) // 2), dtype=np.float32)
    part[: len(ramp)] *= ramp
    part[len(part) - len(ramp) :] *= ramp[::-1]
    return Word(part, label, first, last, reversible)


def resampled(samples: Floats, speed: float) -> Floats:
    """Played `speed` times as fast: tempo, pitch and formants move together (Ko et al. 2015, "Audio augmentation for
    speech recognition"). Linear interpolation: what it dulls above 3 kHz is within the random equaliser's reach."""
    count = max(8, int(len(samples) / speed))
    played: Floats = np.interp(np.arange(count) * speed, np.arange(len(samples)), samples)
    return played.astype(np.float32)


def stretched(rng: Generator, samples: Floats, rate: float) -> Floats:
    """`rate` times as fast at the same pitch, by overlapping 32 ms grains (WSOLA-like, Verhelst & Roelands 1993)."""
    size, hop, seek = 256, 128, 40
    if len(samples) < 3 * size:
        return samples
    window = np.hanning(size).astype(np.float32)
    total = int(len(samples) / rate)
    out = np.zeros(total + 2 * size, np.float32)
    norm = np.full(total + 2 * size, 1e-3, np.float32)
    previous = 0
    for at in range(0, total, hop):
        source = int(at * rate)
        if at and source + size + seek < len(samples) and previous + hop + size < len(samples):
            goal = samples[previous + hop : previous + hop + size]
            low = max(0, source - seek)
            field = samples[low : source + seek + size]
            if len(field) >= size:
                source = low + int(np.argmax(np.correlate(field, goal, "valid")))
        grain = samples[source : source + size]
        out[at : at + len(grain)] += grain * window[: len(grain)]
        norm[at : at + len(grain)] += window[: len(grain)]
        previous = source
    return (out / np.maximum(norm, 0.1))[:total]


def spectrum_curve(rng: Generator, bins: int, strength: float) -> Floats:
    """A smooth random response, linear amplitude over `bins` frequencies: microphones, rooms, voices' tilt."""
    knots = int(rng.integers(3, 9))
    decibels = rng.normal(0, strength, knots) + np.linspace(0, 1, knots) * rng.normal(0, strength)
    curve = np.interp(np.linspace(0, knots - 1, bins), np.arange(knots), decibels)
    frequency = np.linspace(0, RATE / 2, bins)
    if rng.random() < 0.25:
        curve = curve - 20 * np.log10(1 + (rng.uniform(80, 400) / (frequency + 1.0)) ** 2)
    if rng.random() < 0.25:
        curve = curve - 20 * np.log10(1 + (frequency / rng.uniform(2500, 4000)) ** 6)
    response: Floats = 10 ** (curve / 20)
    return response.astype(np.float32)


def filtered(rng: Generator, samples: Floats, strength: float = 4.0, room: float = 0.3) -> Floats:
    """Through a random equaliser and, with probability `room`, a random room: direct sound, then decaying noise
    (Polack 1988) of 50 to 400 ms. The same length; what rings on beyond the end is cut."""
    size = 1 << int(np.ceil(np.log2(len(samples) + 2048)))
    spectrum = np.fft.rfft(samples, size)
    spectrum *= spectrum_curve(rng, len(spectrum), strength)
    if rng.random() < room:
        decay = rng.uniform(0.05, 0.4)
        time = np.arange(2048) / RATE
        impulse = rng.normal(0, 1, 2048) * 10 ** (-3 * time / decay)
        impulse[: int(rng.integers(8, 60))] = 0
        impulse *= 10 ** (rng.uniform(-16, -2) / 20) / np.sqrt((impulse**2).sum() + 1e-9)
        impulse[0] = 1.0
        spectrum *= np.fft.rfft(impulse, size)
    return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def noise(rng: Generator, count: int, words: Sequence[Word]) -> Floats:
    """`count` samples of background at a root mean square of about 1: white, coloured, shaped like speech, swelling,
    babble of reversed words, hum, or tones that change as notes do."""
    kind = rng.choice(7, p=[0.12, 0.28, 0.18, 0.1, 0.16, 0.06, 0.1])
    if kind in (0, 1, 2, 3):
        out = rng.normal(0, 1, count)
        if kind:
            spectrum = np.fft.rfft(out)
            frequency = np.linspace(0, 1, len(spectrum)) + 0.01
            if kind == 2:
                shape = np.abs(np.fft.rfft(words[int(rng.integers(len(words)))].samples, 128)) + 0.02
                spectrum *= np.interp(np.linspace(0, len(shape) - 1, len(spectrum)), np.arange(len(shape)), shape)
            else:
                spectrum *= frequency ** rng.uniform(-1.2, 0.3) * spectrum_curve(rng, len(spectrum), 5.0)
            out = np.fft.irfft(spectrum, count)
        if kind == 3:
            out = out * np.exp(np.interp(np.arange(count), np.linspace(0, count, 9), rng.normal(0, 0.8, 9)))
    elif kind == 4:
        out = rng.normal(0, 0.005, count)
        for _ in range(int(rng.integers(4, 9))):
            part = words[int(rng.integers(len(words)))].samples[::-1]
            part = np.tile(part, 1 + count // len(part))[:count]
            out = out + np.roll(part, int(rng.integers(count))) * rng.uniform(0.5, 1.5)
    elif kind == 5:
        time = np.arange(count) / RATE
        base = rng.choice([50.0, 60.0, 100.0, 120.0]) * rng.uniform(0.98, 1.02)
        out = rng.normal(0, 0.1, count)
        for order in range(1, 9):
            out = out + np.sin(2 * np.pi * base * order * time + rng.uniform(0, 6.3)) * rng.uniform(0, 1) / order
    else:
        out = rng.normal(0, 0.02, count)
        at = 0
        while at < count:
            length = int(rng.uniform(0.08, 0.5) * RATE)
            out[at : at + length] += tone(rng, length)[: count - at]
            at += length
    levelled: Floats = out / (np.sqrt(np.mean(np.square(out))) + 1e-6)
    return levelled.astype(np.float32)


def tone(rng: Generator, count: int) -> Floats:
    """A note or a glide with overtones and an envelope; root mean square about 0.5."""
    time = np.arange(count) / RATE
    start = float(np.exp(rng.uniform(np.log(100), np.log(3000))))
    end = start if rng.random() < 0.6 else float(np.exp(rng.uniform(np.log(100), np.log(3000))))
    phase = 2 * np.pi * np.cumsum(np.linspace(start, end, count)) / RATE
    out = np.zeros(count)
    for order in range(1, int(rng.integers(2, 7))):
        if max(start, end) * order < RATE / 2:
            out += np.sin(order * phase + rng.uniform(0, 6.3)) * rng.uniform(0.2, 1) / order
    rise = np.minimum(1, np.minimum(time, time[::-1]) / rng.uniform(0.003, 0.05))
    return (out * rise * np.exp(-time * rng.uniform(0, 6))).astype(np.float32)


def distractor(rng: Generator, words: Sequence[Word]) -> Floats:
    """A sound that is no word, root mean square about 0.1: a word backwards, a short piece of one, clicks, a note, a
    burst of noise, two words on top of each other backwards."""
    kind = rng.choice(6, p=[0.35, 0.1, 0.15, 0.15, 0.15, 0.1])
    if kind in (0, 5):
        out = _backwards(rng, words)
        if kind == 5:
            other = _backwards(rng, words)
            count = min(len(out), len(other))
            out = out[:count] + other[:count]
    elif kind == 1:
        source = words[int(rng.integers(len(words)))].samples
        length = max(200, int(len(source) * rng.uniform(0.1, 0.25)))
        at = int(rng.integers(max(1, len(source) - length)))
        out = source[at : at + length] * np.hanning(len(source[at : at + length]))
    elif kind == 2:
        out = np.zeros(int(rng.uniform(0.02, 0.4) * RATE))
        for _ in range(int(rng.integers(1, 6))):
            at, length = int(rng.integers(len(out))), int(rng.integers(8, 200))
            piece = rng.normal(0, 1, length) * np.exp(-np.arange(length) / rng.uniform(2, 60))
            out[at : at + length] += piece[: len(out) - at]
    elif kind == 3:
        out = tone(rng, int(rng.uniform(0.05, 0.8) * RATE))
    else:
        count = int(rng.uniform(0.05, 0.6) * RATE)
        out = noise(rng, max(count, 256), words) * np.hanning(max(count, 256)) ** 0.5
    levelled: Floats = out * (0.1 / (np.sqrt(np.mean(np.square(out))) + 1e-6))
    return levelled.astype(np.float32)


def _backwards(rng: Generator, words: Sequence[Word]) -> Floats:
    chosen = words[int(rng.integers(len(words)))]
    for _ in range(_TRIES):
        if chosen.reversible:
            break
        chosen = words[int(rng.integers(len(words)))]
    return resampled(chosen.samples[::-1], float(rng.uniform(0.8, 1.25)))


@dataclass(frozen=True)
class Sizes:
    """How much is done; 0..1 are probabilities."""

    speed: tuple[float, float] = (0.75, 1.3)
    stretch: float = 0.25
    equaliser: float = 3.0  # dB
    room: float = 0.2
    nothing: float = 0.08
    sounds: float = 0.2  # chance that a place is taken by a distractor
    clean: float = 0.3
    ratio: tuple[float, float] = (3.0, 35.0)  # dB, words to noise


def window(
    rng: Generator, words: Sequence[Word], shape: Shape = Shape(), sizes: Sizes = Sizes()
) -> tuple[Floats, Floats, Floats]:
    """One window: samples `[S]`, per frame a class `[T]` (0 nothing, else 1 + label) and a weight `[T]` in 0..1.

    A word cut off by a border counts by how much of it is to be heard: not at all below 35 %, fully from 75 % on.
    """
    out: Floats = np.zeros(shape.samples, np.float32)
    target = np.zeros(shape.frames, np.int64)
    weight = np.ones(shape.frames, np.float32)
    centres = np.arange(shape.frames) * shape.step + shape.centre
    if rng.random() >= sizes.nothing:
        at: float | None = None
        while True:
            is_word = rng.random() >= sizes.sounds
            if is_word:
                chosen = words[int(rng.integers(len(words)))]
                sound = chosen.samples
                low, high = np.log(sizes.speed[0]), np.log(sizes.speed[1])
                sound = resampled(sound, float(np.exp(rng.uniform(low, high))))
                if rng.random() < sizes.stretch:
                    sound = stretched(rng, sound, float(np.exp(rng.uniform(np.log(0.8), np.log(1.25)))))
                if sizes.equaliser and rng.random() < 0.5:
                    sound = filtered(rng, sound, 0.7 * sizes.equaliser, 0.0)
            else:
                sound = distractor(rng, words)
            if at is None:  # the first one may have begun before the window
                at = rng.uniform(-0.7 * len(sound), 0.35 * shape.samples)
            first = int(at)
            if first >= shape.samples:
                break
            low_, high_ = max(0, first), min(shape.samples, first + len(sound))
            if high_ > low_:
                out[low_:high_] += sound[low_ - first : high_ - first] * 10 ** (rng.normal(0, 3.0) / 20)
            if is_word:
                scale = len(sound) / len(chosen.samples)
                onset, ending = first + chosen.first * scale, first + chosen.last * scale
                inside = (centres >= onset) & (centres < ending)
                heard = (min(ending, shape.samples) - max(onset, 0.0)) / (ending - onset)
                target[inside] = 1 + chosen.label
                weight[inside] = np.clip((heard - 0.35) / 0.4, 0.0, 1.0)
            pause = rng.exponential(0.2) if rng.random() < 0.7 else rng.uniform(-0.05, 0.05)
            at = first + len(sound) + pause * RATE
    out = filtered(rng, out, sizes.equaliser, sizes.room) if np.any(out) else out
    if rng.random() >= sizes.clean:
        ratio = rng.uniform(*sizes.ratio)
        out = out + noise(rng, shape.samples, words) * np.float32(0.1 * 10 ** (-ratio / 20))
    elif rng.random() < 0.5:
        out = out + rng.normal(0, 10 ** rng.uniform(-4, -2.5), shape.samples).astype(np.float32)
    out = out * np.float32(10 ** (rng.uniform(-28, 10) / 20))
    return np.clip(out, -1.0, 1.0), target, weight
