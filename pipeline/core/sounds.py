"""Sound files, decoded and resampled whole by FFmpeg: what models of sound are trained, measured and certified on."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

from pipeline.core.pictures import BadPicture
from pipeline.core.records import Array
from pipeline.core.secrets import redact

SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac"})
_LONGEST_S = 3600


class BadSound(BadPicture):
    """Why a sound was not decoded."""


def read_sound(file: Path, rate: int) -> Array:
    """Its first sound track, mixed to one channel: float32 `[n]` in -1…1, `rate` a second. Raises `BadSound`."""
    try:
        with av.open(str(file)) as container:
            if not container.streams.audio:
                raise BadSound("has no sound track")
            resampler = AudioResampler(format="flt", layout="mono", rate=rate)
            parts: list[Array] = []
            left = _LONGEST_S * rate
            for frame in container.decode(audio=0):
                frame.pts = None
                new = [one.to_ndarray()[0] for one in resampler.resample(frame)]
                parts += new
                left -= sum(part.size for part in new)
                if left < 0:
                    raise BadSound(f"is longer than {_LONGEST_S} s: cut it up")
            parts += [one.to_ndarray()[0] for one in resampler.resample(None)]
    except (FFmpegError, OSError, ValueError) as error:
        if isinstance(error, BadSound):
            raise
        raise BadSound(f"cannot be decoded ({redact(error)})") from None
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if not samples.size or not np.isfinite(samples).all():
        raise BadSound("holds no sound" if not samples.size else "holds numbers that are none")
    clipped: Array = np.clip(samples, -1, 1).astype(np.float32)
    return clipped


def centred(samples: Array, count: int) -> Array:
    """A recording of one thing as `count` samples with that in their middle: silence around a shorter one, a longer one
    cut. What lies in the middle is what carries all but a tenth of the energy."""
    heard = np.cumsum(np.square(samples, dtype=np.float64))
    first, last = np.searchsorted(heard, [0.05 * heard[-1], 0.95 * heard[-1]])
    start = int(first + last) // 2 - count // 2
    out = np.zeros(count, np.float32)
    low, high = max(start, 0), min(start + count, len(samples))
    out[low - start : high - start] = samples[low:high]
    return out
