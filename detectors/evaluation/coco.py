"""COCO's own average precision (Lin et al. 2014, arXiv 1405.0312), by COCO's own code, so that figures can stand beside
those that others publish."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

from detectors.evaluation.boxes import Boxes
from pipeline.core.errors import MissingPart


def coco_average(found: Sequence[Boxes], true: Sequence[Boxes], classes: int) -> tuple[float, float] | None:
    """Mean average precision over IoU 0.50 to 0.95, and at 0.50; None where nothing is to be found. At most 100
    findings a picture count. Raises `MissingPart`."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MissingPart("pycocotools is not installed: pip install 'thresher[eval]'", "coco_map") from None
    annotations = [
        {"id": 0, "image_id": index, "category_id": int(kind), "bbox": _sides(box), "area": _area(box), "iscrowd": 0}
        for index, one in enumerate(true)
        for box, kind in zip(one.boxes, one.classes, strict=True)
    ]
    if not annotations:
        return None
    for number, annotation in enumerate(annotations, 1):  # 0 would mean "no match" to it
        annotation["id"] = number
    results = [
        {"image_id": index, "category_id": int(kind), "bbox": _sides(box), "score": float(score)}
        for index, one in enumerate(found)
        for box, kind, score in zip(one.boxes, one.classes, one.scores, strict=True)
    ]
    if not results:
        return 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):  # it tells how it gets on
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": index} for index in range(len(true))],
            "categories": [{"id": index, "name": str(index)} for index in range(classes)],
            "annotations": annotations,
        }
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


def _sides(box: Any) -> list[float]:
    x1, y1, x2, y2 = (float(side) for side in box)
    return [x1, y1, x2 - x1, y2 - y1]


def _area(box: Any) -> float:
    _, _, width, height = _sides(box)
    return width * height
