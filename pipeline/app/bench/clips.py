"""What the benches look at: the shipped clip, made as large as a camera's picture and encoded as a camera would."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.frame import VideoFrame

import pipeline.app
from detectors.runtimes.base import cache_folder
from pipeline.core.payloads import FrameImage, ViewSpec
from pipeline.core.records import Array

SOURCE = Path(pipeline.app.__file__).parent / "demo" / "people.mp4"
_RECIPE = 2  # count up when what is made changes
_NOISE = 2.5  # grey levels, about what a camera's sensor has indoors
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clip:
    """H.264, 8 bit 4:2:0, a key frame every two seconds, 5 Mbit/s at 1080p30 and in proportion else.

    `moving` shows people walking, back and forth without a cut; `still` one picture of it with a sensor's noise, new in
    every frame.
    """

    scene: Literal["moving", "still"] = "moving"
    width: int = 1920
    height: int = 1080
    fps: int = 30
    seconds: float = 10.0

    @property
    def frames(self) -> int:
        return round(self.seconds * self.fps)

    def made(self) -> Path:
        """The file, from the cache or made now (about as long as it plays)."""
        key = hashlib.sha256(f"{_RECIPE} {self}".encode() + SOURCE.read_bytes()).hexdigest()[:12]
        path = cache_folder() / "bench" / f"{self.scene}-{self.height}p{self.fps}-{key}.mp4"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            _log.info("making %s", path)
            part = path.with_name(f".{os.getpid()}.{path.name}")
            try:
                self._write(part)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        return path

    def _write(self, path: Path) -> None:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=self.fps)
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
            stream.bit_rate = int(5e6 * self.width * self.height * self.fps / (1920 * 1080 * 30))
            stream.gop_size = 2 * self.fps
            stream.options = {"preset": "veryfast", "bf": "0"}  # no camera sends pictures out of order
            for index, frame in enumerate(islice(self._pictures(), self.frames)):
                frame.pts, frame.time_base = index, Fraction(1, self.fps)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

    def _pictures(self) -> Iterator[VideoFrame]:
        random = np.random.default_rng(0)
        noise = random.normal(0, _NOISE, (8, self.height, self.width)).round().astype(np.int16)
        scene = _there_and_back() if self.scene == "moving" else cycle(islice(_source_frames(), 1))
        for index, frame in enumerate(scene):
            large = frame.reformat(self.width, self.height, "yuv420p", interpolation="BICUBIC").to_ndarray()
            grain = np.roll(noise[index % len(noise)], int(random.integers(self.height)), axis=0)
            large[: self.height] = np.clip(large[: self.height] + grain, 0, 255)
            yield VideoFrame.from_ndarray(large, format="yuv420p")


def _source_frames() -> Iterator[VideoFrame]:
    with av.open(str(SOURCE)) as container:
        yield from container.decode(video=0)


def _there_and_back() -> Iterator[VideoFrame]:
    frames = list(_source_frames())
    return cycle(frames + frames[-2:0:-1])


def pictures(spec: ViewSpec, count: int, seed: int = 0) -> Array:
    """`count` real pictures as a model sees them, uint8 `[count, height, width, 3]`: the shipped clip's frames, spread
    over it, each cut at random so that no two show the same."""
    random = np.random.default_rng(seed)
    frames = list(_source_frames())
    views = []
    for index in np.linspace(0, len(frames) - 1, count).round().astype(int):
        image = FrameImage(frames[index])
        share = random.uniform(0.3, 1.0)
        width, height = image.width * share, image.height * share
        left, top = random.uniform(0, image.width - width), random.uniform(0, image.height - height)
        views.append(image.view(spec, (left, top, left + width, top + height)).pixels)
    return np.stack(views)
