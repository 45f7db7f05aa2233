"""From a labelled picture to what a network learns from: one crop, turned, scaled, seen by another sensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from pydantic import Field

from detectors.datasets.boards import repaired, sensed
from detectors.manifest import ViewSettings
from pipeline.core.payloads import FrameImage, View
from pipeline.core.records import Array
from pipeline.core.settings import Settings

_TOUCHED = 32  # of 255: of a pixel's area, how much has to be masked for it to be
_VISIBLE = 0.6  # share of a box that has to be in the crop; of a smaller share nothing is learned, either way


class Augmentation(Settings):
    """Chances are drawn anew for every picture. `sensor` and `repair` need references."""

    crop: int | None = Field(default=None, ge=32, description="side of what is cut out, pixels of the view")
    aim: float = Field(default=0.7, ge=0, le=1, description="share of crops that are aimed at something labelled")
    flip: bool = True
    turn: bool = Field(default=True, description="by quarter turns, where the picture is square or cropped")
    scale: float = Field(default=0.5, ge=0, le=0.8, description="crops are up to this share larger or smaller")
    light: float = Field(default=0.1, ge=0, le=1, description="brightness and contrast change by up to this share")
    noise: float = Field(default=4.0, ge=0, le=64, description="up to so much normal noise, of 255")
    sensor: float = Field(default=0.0, ge=0, le=1, description="share seen by a simulated line camera")
    repair: float = Field(default=0.0, ge=0, le=1, description="share with one defect left, or none")
    adversarial: float = Field(
        default=0.0,
        ge=0,
        le=16,
        description="FGSM on half of a batch: a step of so many of 255",
    )


@dataclass(slots=True)
class Example:
    """Picture uint8 `[h, w, 3]`; boxes float32 `[n, 4]` in its pixels with classes `[n]` and how sure each is, `[n]` in
    0…1; `ignored` boxes, of which too little is seen; bool `mask` `[h, w]` where the data set has masks, and how sure
    it is; `shares` of the classes `[C]` where somebody gave them for the picture as a whole. A class without a box
    speaks of the whole picture, too."""

    picture: Array
    boxes: Array
    classes: Array
    sure: Array
    ignored: Array = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    mask: Array | None = None
    sure_of_mask: float = 1.0
    shares: Array | None = None


def augmented(
    example: Example, how: Augmentation, view: ViewSettings, rng: np.random.Generator, *, has_reference: bool = False
) -> Example:
    """An example at its picture's own size → one of the crop's size, or of the view's."""
    if has_reference and len(example.boxes) and rng.random() < how.repair:
        kept = rng.permutation(len(example.boxes))[: rng.integers(0, 2)]
        example = _only(example, kept, picture=repaired(example.picture, example.boxes, kept))
    seen = has_reference and rng.random() < how.sensor
    if how.crop is not None:
        example = _cropped(plain(example, view), how, rng)  # cut out before it is seen by the sensor: less to see
        example = replace(example, picture=sensed(example.picture, rng)) if seen else example
    else:
        example = plain(replace(example, picture=sensed(example.picture, rng)) if seen else example, view)
    _turned(example, how, rng)
    example.picture = _lit(example.picture, how, rng, noisy=not seen)
    return example


def plain(example: Example, view: ViewSettings) -> Example:
    """An example as the model will see it, nothing left to chance: the one preprocessing."""
    picture, mask = example.picture, example.mask
    height, width = picture.shape[:2]
    as_it_is = view.crop == 1 and view.colour == "rgb"
    if as_it_is and (width, height) == (view.width, view.height):
        return replace(example)
    seen = FrameImage.from_array(picture).view(view.spec())
    if mask is not None:
        mask = _seen_mask(mask, seen, view)
    start, step = np.array([seen.left, seen.top] * 2), np.array([seen.step_x, seen.step_y] * 2)
    whole = replace(example, picture=seen.pixels, mask=mask)
    return _within(whole, lambda boxes: (boxes - start) / step, view.width, view.height)


def _seen_mask(mask: Array, seen: View, view: ViewSettings) -> Array:
    """bool `[h, w]` of the source → of the view: a pixel is masked where enough of what it shows is."""
    import cv2

    inner = (round(mask.shape[1] / seen.step_x), round(mask.shape[0] / seen.step_y))
    small = cv2.resize(mask.astype(np.uint8) * 255, inner, interpolation=cv2.INTER_AREA) > _TOUCHED
    top, left = round(seen.top / seen.step_y), round(seen.left / seen.step_x)  # negative where there are bars
    small = small[max(top, 0) : max(top, 0) + view.height, max(left, 0) : max(left, 0) + view.width]
    out = np.zeros((view.height, view.width), bool)
    out[max(-top, 0) : max(-top, 0) + small.shape[0], max(-left, 0) : max(-left, 0) + small.shape[1]] = small
    return out


def _within(example: Example, moved: Callable[[Array], Array], width: int, height: int) -> Example:
    """Boxes moved into a picture of that size, which has taken the old one's place; those of which too little is left
    in it are ignored."""
    if not len(example.boxes) and not len(example.ignored):
        return replace(example)  # a class without a place stays as it is
    frame = np.array([width, height] * 2, np.float32)
    boxes, ignored = moved(example.boxes).astype(np.float32), moved(example.ignored).astype(np.float32)
    inside = np.clip(boxes, 0, frame)
    share = _area(inside) / np.maximum(_area(boxes), 1e-6)
    whole = share >= _VISIBLE
    there = _only(replace(example, boxes=inside), np.flatnonzero(whole))
    unsure = np.concatenate([np.clip(ignored, 0, frame), inside[~whole]])
    return replace(there, ignored=unsure[_area(unsure) > 0])


def _only(example: Example, kept: Array, **changed: Array) -> Example:
    """Nothing but the boxes with these indices."""
    boxes = {name: getattr(example, name)[kept] for name in ("boxes", "classes", "sure")}
    return replace(example, **boxes | changed)


def _cropped(example: Example, how: Augmentation, rng: np.random.Generator) -> Example:
    import cv2

    assert how.crop is not None
    height, width = example.picture.shape[:2]
    side = min(round(how.crop / rng.uniform(1 - how.scale, 1 + how.scale)), height, width)
    if len(example.boxes) and rng.random() < how.aim:
        x1, y1, x2, y2 = example.boxes[rng.integers(len(example.boxes))]
        left, top = (x1 + x2) / 2 - rng.uniform(0.1, 0.9) * side, (y1 + y2) / 2 - rng.uniform(0.1, 0.9) * side
    else:
        left, top = rng.uniform(0, width - side + 1), rng.uniform(0, height - side + 1)
    left, top = int(np.clip(left, 0, width - side)), int(np.clip(top, 0, height - side))
    cut = example.picture[top : top + side, left : left + side]
    zoom = how.crop / side
    if side != how.crop:
        cut = cv2.resize(cut, (how.crop, how.crop), interpolation=cv2.INTER_LINEAR if zoom > 1 else cv2.INTER_AREA)
    mask = None
    if example.mask is not None:
        piece = example.mask[top : top + side, left : left + side].astype(np.uint8)
        mask = cv2.resize(piece, (how.crop, how.crop), interpolation=cv2.INTER_NEAREST).astype(bool)
    start = np.array([left, top, left, top], np.float32)
    return _within(replace(example, picture=cut, mask=mask), lambda boxes: (boxes - start) * zoom, how.crop, how.crop)


def _area(boxes: Array) -> Array:
    return cast(Array, np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1))


def _turned(example: Example, how: Augmentation, rng: np.random.Generator) -> None:
    height, width = example.picture.shape[:2]
    turns = int(rng.integers(4)) if how.turn and height == width else 0
    flips = how.flip and rng.random() < 0.5
    for _ in range(turns):  # counter-clockwise: (x, y) → (y, width - x)
        example.boxes = _quarter(example.boxes, width)
        example.ignored = _quarter(example.ignored, width)
    example.picture = np.rot90(example.picture, turns)
    example.mask = None if example.mask is None else np.rot90(example.mask, turns)
    if flips:
        example.picture = example.picture[:, ::-1]
        example.mask = None if example.mask is None else example.mask[:, ::-1]
        example.boxes = _mirrored(example.boxes, width)
        example.ignored = _mirrored(example.ignored, width)


def _quarter(boxes: Array, width: float) -> Array:
    return np.stack([boxes[:, 1], width - boxes[:, 2], boxes[:, 3], width - boxes[:, 0]], 1)


def _mirrored(boxes: Array, width: float) -> Array:
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)


def _lit(picture: Array, how: Augmentation, rng: np.random.Generator, noisy: bool) -> Array:
    """Another light and another sensor; all channels alike, as a camera's are."""
    if not how.light and not (noisy and how.noise):
        return np.ascontiguousarray(picture)
    gain, offset = 1 + rng.uniform(-how.light, how.light), 127 * rng.uniform(-how.light, how.light)
    levels = np.clip((np.arange(256) - 127.0) * gain + 127 + offset, 0, 255)
    seen = levels.astype(np.float32)[picture]
    if noisy and how.noise:
        grain = rng.standard_normal((*picture.shape[:2], 1), dtype=np.float32)
        seen += grain * np.float32(rng.uniform(0, how.noise))
    return cast(Array, np.clip(seen, 0, 255).astype(np.uint8))
