"""A film whose brightness says what happens in it, with sound, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

Clips: TypeAlias = "dict[Path, dict[str, Any]]"

FPS = 25
RATE = 16_000


def make_film(path: Path, seconds: float, bright: Sequence[tuple[float, float]], codec: str = "libx264") -> Path:
    """`seconds` of film, dark but for the times in `bright`, a key frame a second, with B-frames where it is H.264."""
    with av.open(str(path), "w") as container:
        options = {"bf": "2", "g": str(FPS), "keyint_min": str(FPS), "sc_threshold": "0", "preset": "ultrafast"}
        video = container.add_stream(codec, rate=FPS, options=options if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p" if codec == "libx264" else "yuvj420p"
        sound = container.add_stream("aac" if path.suffix == ".mp4" else "pcm_mulaw", rate=RATE, layout="mono")
        for n in range(round(seconds * FPS)):
            level = 220 if any(start <= n / FPS < end for start, end in bright) else 20
            picture = np.full((48, 64, 3), level, np.uint8)
            picture[:, n % 64] = 255 - level  # no two frames are alike
            frame = VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, FPS)
            container.mux(video.encode(frame))
            tone = np.sin(np.arange(RATE // FPS) / 7) * 8000
            heard = AudioFrame.from_ndarray(tone.astype(np.int16)[None], format="s16", layout="mono")
            heard.pts, heard.sample_rate, heard.time_base = n * (RATE // FPS), RATE, Fraction(1, RATE)
            container.mux(sound.encode(heard))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def clips(folder: Path) -> Clips:
    """Every clip in it with what is said of it, the oldest first."""
    films = sorted((p for p in folder.glob("*/*.m*") if p.suffix in {".mp4", ".mov", ".mkv"}), key=lambda p: p.name)
    return {path: json.loads(Path(f"{path}.json").read_text()) for path in films}


def levels(path: Path) -> list[tuple[float, float]]:
    """When each picture of a clip is shown, in seconds, and how bright it is."""
    with av.open(str(path)) as container:
        return [
            (float(frame.time or 0), float(frame.to_ndarray(format="gray").mean()))
            for frame in container.decode(video=0)
        ]


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]
