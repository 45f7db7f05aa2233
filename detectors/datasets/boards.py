"""Honest parts from pictures with a reference: repaired, with one defect left, seen by one sensor.

In DeepPCB the clean templates and the inspected boards differ in how their files came about: one bin of the histogram
tells them apart. Whoever trains on templates as good parts learns the file format. So a good part is a *board* whose
defects were replaced by the template's pixels, a hard one has exactly one left, and all pass through one binarising
and one simulated sensor.
"""

from __future__ import annotations

import numpy as np

from pipeline.core.records import Array

SHIFT = 2  # pixels that a part may lie off its reference, either way
_TAPS = 3  # of a blur, either way: three times its largest sigma
_MARGIN = 2  # pixels around a defect that go with it
_NOISE_SIDE = 1024


def repaired(picture: Array, boxes: Array, keep: Array) -> Array:
    """A copy of uint8 `[h, w, 3]` (see `pictures.beside`) with the reference's pixels in every box but those whose
    indices are in `keep`; what overlaps a kept one stays."""
    out = picture.copy()
    kept = np.zeros(picture.shape[:2], bool)
    for x1, y1, x2, y2 in boxes[keep].astype(int):
        kept[max(y1 - _MARGIN, 0) : y2 + _MARGIN, max(x1 - _MARGIN, 0) : x2 + _MARGIN] = True
    for index, (x1, y1, x2, y2) in enumerate(boxes.astype(int)):
        if index in keep:
            continue
        rows, columns = slice(max(y1 - _MARGIN, 0), y2 + _MARGIN), slice(max(x1 - _MARGIN, 0), x2 + _MARGIN)
        out[rows, columns, 0] = np.where(kept[rows, columns], out[rows, columns, 0], picture[rows, columns, 1])
    return out


def sensed(picture: Array, rng: np.random.Generator) -> Array:
    """The same as one line camera would see it: part and reference binarised, the part up to `SHIFT` pixels off,
    blurred (σ 0.4 to 1) and noisy (σ 2 to 8 of 255). The boxes of a part move by less than anybody measures them."""
    part = np.where(picture[..., 0] > 127, np.uint8(255), np.uint8(0))
    clean = np.where(picture[..., 1] > 127, np.uint8(255), np.uint8(0))
    across, down = rng.integers(-SHIFT, SHIFT + 1, 2)
    padded = np.pad(part, SHIFT, mode="edge")
    height, width = part.shape
    part = padded[SHIFT + down : SHIFT + down + height, SHIFT + across : SHIFT + across + width]
    seen = _blurred(part.astype(np.float32), float(rng.uniform(0.4, 1.0)))
    seen += _noise(height, width, rng) * rng.uniform(2, 8)
    return np.dstack([np.clip(seen, 0, 255).astype(np.uint8), clean, clean])


def _blurred(picture: Array, sigma: float) -> Array:
    """Gaussian blur, float32 `[h, w]`, edges repeated. (OpenCV would do, but needs libGL on the machine of whoever
    only wants to see the demo.)"""
    kernel = np.exp(-(np.arange(_TAPS + 1, dtype=np.float32) ** 2) / np.float32(2 * sigma**2))
    kernel /= kernel[0] + 2 * kernel[1:].sum()
    for axis in (0, 1):
        padded = np.pad(picture, [(_TAPS, _TAPS) if at == axis else (0, 0) for at in (0, 1)], mode="edge")
        side = picture.shape[axis]
        blurred = kernel[0] * picture
        for tap in range(1, _TAPS + 1):
            for start in (_TAPS - tap, _TAPS + tap):
                blurred += kernel[tap] * (
                    padded[start : start + side] if axis == 0 else padded[:, start : start + side]
                )
        picture = blurred
    return picture


_bank: list[Array] = []


def _noise(height: int, width: int, rng: np.random.Generator) -> Array:
    """Normal noise, a random cut of one large field: drawing it anew costs more than the rest of the camera."""
    if not _bank:
        _bank.append(np.random.default_rng(1).standard_normal((_NOISE_SIDE, _NOISE_SIDE)).astype(np.float32))
    if height > _NOISE_SIDE or width > _NOISE_SIDE:
        return rng.standard_normal((height, width)).astype(np.float32)
    top, left = rng.integers(0, _NOISE_SIDE - height + 1), rng.integers(0, _NOISE_SIDE - width + 1)
    return _bank[0][top : top + height, left : left + width]
