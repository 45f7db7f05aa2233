"""Small real pictures and data sets, made where a test wants them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.core.records import Array


def encoded(suffix: str, pixels: Array, *options: int) -> bytes:
    """`pixels`, uint8 `[h, w]`, `[h, w, 3]` or `[h, w, 4]`, as a file of that kind."""
    ok, data = cv2.imencode(suffix, pixels, list(options))
    assert ok
    return bytes(data)


def picture(path: Path, width: int = 40, height: int = 30, seed: int = 0) -> Path:
    """A picture of noise, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.write_bytes(encoded(path.suffix.lower(), pixels))
    return path


def mask(path: Path, width: int = 40, height: int = 30, *, black: bool = False) -> Path:
    """A mask with a white square in its middle, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width), np.uint8)
    if not black:
        pixels[height // 3 : height // 2, width // 3 : width // 2] = 255
    path.write_bytes(encoded(".png", pixels))
    return path


def held(orientation: int) -> bytes:
    """A note, in TIFF, on how the camera was held."""
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + b"\0\0\0\0"


def turned(jpeg: bytes, orientation: int) -> bytes:
    """`jpeg` with that note."""
    exif = b"Exif\0\0" + held(orientation)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def text(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def coco(
    folder: Path, annotations: list[Any], images: list[Any] | None = None, *, name: str = "annotations.json"
) -> Path:
    """A COCO document with the categories 3 `scratch` and 7 `dent` beside `images/1.jpg` and `2.jpg`, 40×30."""
    for number in (1, 2):
        picture(folder / "images" / f"{number}.jpg", seed=number)
    if images is None:
        images = [{"id": number, "file_name": f"{number}.jpg", "width": 40, "height": 30} for number in (1, 2)]
    categories = [{"id": 7, "name": "dent"}, {"id": 3, "name": "scratch"}]
    return text(folder / name, json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def yolo(folder: Path, **labels: str | bytes) -> Path:
    """`data.yaml` with the names `scratch` and `dent`, and pictures of 40×30 with these labels in the part `train`."""
    text(folder / "data.yaml", "train: images/train\nval:\nnames: [scratch, dent]\n")
    for index, (name, content) in enumerate(labels.items()):
        picture(folder / "images" / "train" / f"{name}.jpg", seed=index)
        text(folder / "labels" / "train" / f"{name}.txt", content)
    return folder
