"""A project for somebody who gave nothing but a folder: what the labels say decides what is made."""

from __future__ import annotations

from typing import Any

import numpy as np

from detectors.datasets.base import DataSet
from pipeline.core.pictures import BadPicture
from pipeline.core.sounds import SUFFIXES as SOUNDS

_CHEAP_SIDE = 320
_LARGEST = 640
_ALIKE = 0.05  # of a side: far less than training itself changes the scale
_LOOKED_AT = 20  # pictures that the size is taken from


def project_of(data: DataSet) -> dict[str, Any]:
    """The sections `heavy` and `cheap` of a project, as a config would have them: boxes are boxed and looked at by
    region, masks become heat maps, and where only classes are known, whole pictures are sorted. Messages and words have
    networks of their own."""
    if any(sample.text is not None for sample in data.samples):
        return _messages(len(data.labels))
    if any(sample.file.suffix.lower() in SOUNDS for sample in data.samples):
        return _words(len(data.labels))
    width, height, as_it_is = _size(data)
    if any(len(sample.boxes) for sample in data.samples):
        references = any(sample.reference for sample in data.samples)
        return _boxes(len(data.labels), (width, height), as_it_is=as_it_is, references=references)
    if any(sample.mask for sample in data.samples):
        return _whole("heatmap", 1, width, height)
    return _whole("classification", len(data.labels), width, height)


def _size(data: DataSet) -> tuple[int, int, bool]:
    """The usual size of a picture, as multiples of 32, at most `_LARGEST` a side, and whether all have about that."""
    sizes = []
    for sample in data.samples[:: max(1, len(data.samples) // _LOOKED_AT)]:
        try:
            image = sample.image()
        except BadPicture:
            continue
        sizes.append((image.width, image.height))
        image.release()
    width, height = np.median(sizes, axis=0) if sizes else (_CHEAP_SIDE, _CHEAP_SIDE)
    scale = min(1.0, _LARGEST / max(width, height))
    size = _rounded(width * scale), _rounded(height * scale)
    about = [abs(have / want - 1) <= _ALIKE for one in sizes for have, want in zip(one, size, strict=True)]
    return *size, all(about)


def _rounded(side: float) -> int:
    return max(64, round(side / 32) * 32)


def _smaller(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, _CHEAP_SIDE / max(width, height))
    return _rounded(width * scale), _rounded(height * scale)


def _boxes(classes: int, size: tuple[int, int], *, as_it_is: bool, references: bool) -> dict[str, Any]:
    """Tiles only where the heavy stage learns pictures `as_it_is`: else a tile would show another scale."""
    width, height = size
    crop = min(192, width, height)
    seen = {"sensor": 0.5, "repair": 0.25} if references else {}
    shown = {"sensor": 0.8, "repair": 0.5, "scale": 0.0} if references else {"scale": 0.0}
    small_w, small_h = _smaller(width, height)
    return {
        "heavy": {
            **({"tile": min(128, width, height)} if as_it_is else {}),
            "recipe": {
                "network": {"backbone": "resnet-18", "head": "boxes", "stride": 4, "channels": 96, "classes": classes},
                "view": {"width": width, "height": height},
                "augment": {"crop": crop, **seen},
                "steps": 3600,
                "batch": 24,
                "evaluate_every": 400,
            },
        },
        "cheap": {
            "recipe": {
                "network": {"backbone": "mobilenet-v3-small", "head": "heatmap", "stride": 4, "channels": 16},
                "view": {"width": small_w, "height": small_h, "resize": "area"},  # keeps what is a few pixels large
                "augment": shown,
                "steps": 3200,
                "batch": 16,
                "rate": 2e-3,
                "distill": 0.3,
            },
        },
    }


def _whole(head: str, classes: int, width: int, height: int) -> dict[str, Any]:
    small_w, small_h = _smaller(width, height)
    common = {"head": head, "classes": classes}
    return {
        "heavy": {
            "recipe": {
                "network": {"backbone": "resnet-18", "stride": 8, "channels": 64, **common},
                "view": {"width": width, "height": height},
                "steps": 1500,
                "evaluate_every": 150,
            },
        },
        "cheap": {
            "recipe": {
                "network": {"backbone": "mobilenet-v3-small", "stride": 8, "channels": 32, **common},
                "view": {"width": small_w, "height": small_h},
                "steps": 1500,
                "evaluate_every": 150,
                "rate": 2e-3,
                "distill": 0.3,
            },
        },
    }


def _messages(classes: int) -> dict[str, Any]:
    common = {"batch": 64, "warmup": 0.15, "decay": 0.01, "clip": 100.0, "evaluate_every": 240}
    return {
        "heavy": {
            "recipe": {
                "network": {"backbone": "resnet", "classes": classes},
                "view": {"length": 512, "context": True},
                "steps": 720,
                "rate": 1.5e-3,
                **common,
            },
        },
        "cheap": {
            "recipe": {
                "network": {"backbone": "mobilenet", "classes": classes},
                "view": {"length": 144},
                "augment": {"context": 0.0},
                "steps": 1200,
                "rate": 3e-3,
                **common,
            },
        },
    }


def _words(classes: int) -> dict[str, Any]:
    common = {"batch": 32, "decay": 0.02, "clip": 95.0, "average": 0.99, "evaluate_every": 300, "bf16": True}
    view = {"rate": 8000, "samples": 8192}
    return {
        "heavy": {
            "recipe": {
                "network": {"backbone": "resnet", "classes": classes, "channels": 24},
                "view": view,
                "steps": 1500,
                "rate": 2.5e-3,
                **common,
            },
        },
        "cheap": {
            "recipe": {
                "network": {"backbone": "mobilenet", "classes": classes, "channels": 32},
                "view": view,
                "steps": 1000,
                "rate": 4e-3,
                "distill": 0.7,
                **common,
            },
        },
    }
