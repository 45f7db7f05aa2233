"""The shipped line: sixty honest parts made of the sample boards, one in six with a defect, half of those with one.

    python -m pipeline.app.demo.parts

writes them anew: `NN-KIND_part.jpg` as the simulated line camera sees it, `NN-KIND_temp.png` its clean reference.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from detectors.datasets import read_dataset
from detectors.datasets.parts import Part, parts_of
from pipeline.core.pictures import encode
from pipeline.core.records import Array

BOARDS = Path(__file__).with_name("boards")
LINE = Path(__file__).with_name("line")
PARTS = 60
_BAD_EVERY = 6


def defects(file: str) -> str:
    """`good`, `single` or `several`: what a shipped part truly is, by its name."""
    return Path(file).stem.partition("_")[0].rpartition("-")[2]


def write(folder: Path = LINE) -> None:
    kinds: dict[str, list[Part]] = {"good": [], "single": [], "several": []}
    for part in parts_of(read_dataset(BOARDS)):
        kinds[part.name.rpartition("-")[2]].append(part)
    rng = np.random.default_rng(6)
    for ones in kinds.values():
        rng.shuffle(ones)
    folder.mkdir(exist_ok=True)
    for number in range(PARTS):
        turn, place = divmod(number, _BAD_EVERY)
        bad = place == turn * 5 % _BAD_EVERY  # not always at the same place
        kind = ("single", "several")[turn % 2] if bad else "good"
        picture = kinds[kind].pop().image().rgb()
        name = f"{number:02d}-{kind}"
        (folder / f"{name}_part.jpg").write_bytes(_jpeg(picture[..., 0]))
        (folder / f"{name}_temp.png").write_bytes(encode(picture[..., 1], "png", 6))


def _jpeg(grey: Array) -> bytes:
    """As a line camera writes it: not as fine as what a sink keeps."""
    codec = CodecContext.create("mjpeg", "w")
    assert isinstance(codec, VideoCodecContext)
    codec.qmin = codec.qmax = 3
    codec.height, codec.width = grey.shape
    codec.pix_fmt, codec.time_base = "yuvj420p", Fraction(1, 1)
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(grey), format="gray").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


if __name__ == "__main__":
    write()
