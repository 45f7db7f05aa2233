"""Sounds that are made as they are needed: tones, speech, files and films with a sound track."""

from __future__ import annotations

import io
import subprocess
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from pipeline.core.records import Array
from pipeline.core.resampling import Resampler


def tone(seconds: float, rate: int, hertz: float = 440.0, channels: int = 1) -> Array:
    """float32 `[channels, n]`, half of full scale."""
    one = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.tile(one.astype(np.float32), (channels, 1))


@cache
def _spoken(words: str) -> tuple[Array, int]:
    said = subprocess.run(["espeak-ng", "-v", "en", "--stdout", words], capture_output=True, check=True).stdout
    with av.open(io.BytesIO(said)) as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    return np.concatenate(frames).astype(np.float32) / 32768, rate


def speech(rate: int, words: str = "The quick brown fox jumps over the lazy dog.") -> Array:
    """What espeak-ng makes of `words`: float32 `[n]`."""
    samples, rate_in = _spoken(words)
    resampler = Resampler(rate_in, rate)
    return np.concatenate((resampler.push(samples), resampler.flush()))


def noisy(samples: Array, snr_db: float, seed: int = 0) -> Array:
    """With white noise that much weaker than the samples are on the whole."""
    power = float(np.mean(samples**2)) / 10 ** (snr_db / 10)
    return samples + np.random.default_rng(seed).normal(0, power**0.5, samples.shape).astype(np.float32)


def sound_file(path: Path, samples: Array, rate: int, codec: str = "pcm_f32le") -> Path:
    """`samples` float32 `[channels, n]` as a file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono" if len(samples) == 1 else "stereo"
        _mux_sound(container, stream, samples, rate)
    return path


def film(path: Path, samples: Array | None, rate: int, *, frames: int = 50, codec: str = "aac") -> Path:
    """Grey pictures, 25 a second, with that sound beside them (an empty track where there are no samples)."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(25), options={"bf": "2"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream(codec, rate=rate) if samples is not None else None
        if audio is not None:
            audio.layout = "mono" if samples is None or len(samples) == 1 else "stereo"
        for n in range(frames):
            picture = np.full((48, 64, 3), n * 4 % 256, np.uint8)
            container.mux(video.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None and samples is not None and samples.size:
            _mux_sound(container, audio, samples, rate)
    return path


def _mux_sound(
    container: av.container.OutputContainer, stream: av.audio.stream.AudioStream, samples: Array, rate: int
) -> None:
    layout = "mono" if len(samples) == 1 else "stereo"
    for first in range(0, samples.shape[1], 1024):
        piece = np.ascontiguousarray(samples[:, first : first + 1024])
        frame = AudioFrame.from_ndarray(piece, "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
