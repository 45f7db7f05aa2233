"""Draws an outcome on its picture: what was found and by whom, or that nobody judged it."""

from __future__ import annotations

import zlib
from datetime import datetime
from typing import Any, Final

from pipeline.core.errors import MissingPart
from pipeline.core.records import Array, Box, Detection, Outcome, Result
from sinks.wording import milliseconds, printable

Rgb = tuple[int, int, int]

_PALETTE: Final[tuple[Rgb, ...]] = (
    (255, 112, 67),
    (66, 165, 245),
    (102, 187, 106),
    (255, 202, 40),
    (171, 71, 188),
    (38, 198, 218),
    (236, 64, 122),
    (156, 204, 101),
)
_INK: Final[Rgb] = (16, 16, 16)
_PAPER: Final[Rgb] = (235, 235, 235)
_ALARM: Final[Rgb] = (229, 57, 53)
_WEIGHT: Final = 600  # semibold, of a variable font


def drawing() -> Any:
    """OpenCV. Raises `MissingPart` with what to install."""
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise MissingPart("drawing on pictures needs OpenCV: pip install opencv-python") from error
    except ImportError as error:  # the package is there, a library of the system is not
        raise MissingPart(
            f"drawing on pictures needs system libraries ({error}): apt-get install libgl1 libglib2.0-0"
        ) from error
    return cv2


class Annotator:
    """Draws; holds the font. Raises `MissingPart` where OpenCV cannot be used."""

    def __init__(self) -> None:
        self._cv2 = drawing()
        self._font = self._cv2.FontFace("sans")

    def draw(self, pixels: Array, outcome: Outcome, scale: float) -> None:
        """Draw on `pixels`, uint8 RGB `[h, w, 3]`, in place; it is `scale` times the size of the source picture."""
        size = max(11, pixels.shape[0] // 32)
        line = max(1, size // 9)
        if isinstance(outcome, Result):
            above = 0  # what speaks of the whole picture is listed in its corner
            for detection in outcome.detections:
                if detection.box is None:
                    above += self._label(pixels, detection, (0, above), size)
                else:
                    self._boxed(pixels, detection, detection.box, scale, (size, line * 2 if outcome.flagged else line))
        else:  # nobody may take this picture for a clean one
            height, width = pixels.shape[:2]
            self._cv2.rectangle(pixels, (0, 0), (width - 1, height - 1), _ALARM, line * 4)
        self._caption(pixels, caption(outcome), size, _PAPER if isinstance(outcome, Result) else _ALARM)

    def rule(self, pixels: Array, words: str) -> None:
        """What was done to the picture, on a strip at its top."""
        size = max(11, pixels.shape[0] // 32)
        tall = size + size // 2
        pixels[:tall] //= 3
        self._cv2.putText(pixels, words, (size // 2, size), _ALARM, self._font, size, _WEIGHT)

    def _boxed(self, pixels: Array, detection: Detection, box: Box, scale: float, sizes: tuple[int, int]) -> None:
        """The box, and its label above it, or in it where the picture ends."""
        size, line = sizes
        left, top, right, bottom = (round(side * scale) for side in box)
        self._cv2.rectangle(pixels, (left, top), (right - 1, bottom - 1), _colour(detection.label), line)
        self._label(pixels, detection, (left, top - _label_height(size) if top >= _label_height(size) else top), size)

    def _label(self, pixels: Array, detection: Detection, corner: tuple[int, int], size: int) -> int:
        """Right and below of `corner`, inside the picture. Returns how high it is."""
        text = f"{printable(detection.label)} {detection.score:.2f}"
        height, width = pixels.shape[:2]
        _, _, wide, _ = self._cv2.getTextSize((width, height), text, (0, 0), self._font, size, _WEIGHT)
        tall = _label_height(size)
        left, top = max(0, min(corner[0], width - wide - size // 2)), max(0, corner[1])
        self._cv2.rectangle(
            pixels, (left, top), (left + wide + size // 2, top + tall - 1), _colour(detection.label), -1
        )
        self._cv2.putText(pixels, text, (left + size // 4, top + size), _INK, self._font, size, _WEIGHT)
        return tall

    def _caption(self, pixels: Array, text: str, size: int, colour: Rgb) -> None:
        tall = size + size // 2
        strip = pixels[-tall:]
        strip //= 3  # a dark strip reads well on any picture
        place = (size // 2, pixels.shape[0] - size // 2)
        self._cv2.putText(pixels, text, place, colour, self._font, size, _WEIGHT)


def _label_height(size: int) -> int:
    return size + size // 3


def _colour(label: str) -> Rgb:
    """The same for a label in every picture and run."""
    return _PALETTE[zlib.crc32(label.encode("utf-8", "replace")) % len(_PALETTE)]


def caption(outcome: Outcome) -> str:
    """`2026-01-31 12:00:04.12  door  mobilenet  7.4 ms`, in the reader's own time."""
    window = outcome.window
    seconds, rest = divmod(window.wall_ns, 1_000_000_000)
    when = f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M:%S}.{rest // 10_000_000:02}"
    if isinstance(outcome, Result):
        flag = "  FLAGGED" if outcome.flagged else ""
        word = f"{printable(outcome.decided_by)}  {milliseconds(outcome.latency_ns / 1e6)} ms{flag}"
    else:
        word = f"NOT JUDGED  {outcome.kind}: {printable(getattr(outcome, 'reason', ''))}"
    return f"{when}  {window.stream}  {word}"
