"""What the numbers of detectors in pictures mean: boxes, by the kind of output that the manifest names."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, cast

import numpy as np

from detectors.decode import Decoder
from detectors.image.boxes import corners, rivals_lowered, suppress
from detectors.manifest import Manifest
from detectors.runtimes.base import Shapes, Tensors
from pipeline.core.errors import InputError, StageError
from pipeline.core.payloads import View
from pipeline.core.records import Array, Findings


class Boxes(Decoder):
    """What the decoders of boxes share: the floor, suppression, the way back to source pixels."""

    suppresses: ClassVar[bool] = True

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest)
        self.width, self.height = manifest.picture.width, manifest.picture.height

    @abstractmethod
    def candidates(self, tensors: Tensors, index: int) -> tuple[Array, Array, Array]:
        """Of picture `index`: boxes `[M, 4]` in view pixels, scores `[M]`, classes `[M]`, all above the floor."""

    def kinds(self, values: Array) -> Array:
        """Classes that a graph gives as numbers of any type, as integers."""
        if not np.isfinite(values).all():
            raise StageError(f"{self.name}: the model answered with classes that are not finite")
        return values.astype(np.int64)

    def read(self, tensors: Tensors, views: Sequence[View]) -> list[Findings]:
        return [self._findings(*self.candidates(tensors, index), view) for index, view in enumerate(views)]

    def _findings(self, boxes: Array, scores: Array, classes: Array, view: View) -> Findings:
        known = (classes >= 0) & (classes < len(self.labels))
        boxes, scores, classes = boxes[known], scores[known], classes[known]
        if not np.isfinite(boxes).all():
            raise StageError(f"{self.name}: the model answered with boxes that are not finite")
        most = self.output.max_boxes
        if self.suppresses:
            best = suppress(boxes, scores, classes, self.output.iou, most)
            if self.output.rival < 1:
                scores = scores.copy()
                scores[best] = rivals_lowered(boxes[best], scores[best], self.output.iou, self.output.rival)
                best = best[np.argsort(-scores[best], kind="stable")]
        else:
            best = np.argsort(-scores, kind="stable")[:most]
        placed = view.to_source(boxes[best])
        seen = (placed[:, 2] > placed[:, 0]) & (placed[:, 3] > placed[:, 1])  # not wholly in the letterbox's bars
        best = best[seen]
        return Findings(self.labels, scores[best].astype(np.float32), classes[best].astype(np.int64), placed[seen])


class Ssd(Boxes):
    """TensorFlow's detection graphs: boxes `[N, A, 4]` as y1 x1 y2 x2 of 1; scores `[N, A]` with classes `[N, A]`
    where the graph has suppressed, or scores `[N, A, C]` where that is ours to do."""

    def check(self, shapes: Shapes) -> None:
        boxes, scores, classes = self._names(list(shapes))
        if shapes[boxes] and (len(shapes[boxes]) != 3 or shapes[boxes][2] not in {4, None}):
            raise self.mismatch(shapes[boxes], "boxes [N, A, 4] are expected")
        if classes is None and shapes[scores]:
            columns = shapes[scores][2] if len(shapes[scores]) == 3 else 0
            if columns is not None and columns != len(self.labels) + self.output.class_offset:
                raise self.mismatch(shapes[scores], "scores [N, A, labels + class_offset] are expected")

    def _names(self, names: list[str]) -> tuple[str, str, str | None]:
        boxes = self.pick(names, self.output.boxes, ["boxes", "detection_boxes"])
        scores = self.pick(names, self.output.scores, ["scores", "detection_scores"])
        classes = [n for n in names if n.partition(":")[0] in {"classes", "detection_classes", self.output.classes}]
        return boxes, scores, classes[0] if classes else None

    def candidates(self, tensors: Tensors, index: int) -> tuple[Array, Array, Array]:
        box_name, score_name, class_name = self._names(list(tensors))
        boxes = tensors[box_name][index][:, [1, 0, 3, 2]]
        boxes = boxes * np.array([self.width, self.height, self.width, self.height], np.float32)
        scores = self.scores(tensors[score_name][index])
        if class_name is None:
            scores = scores[:, self.output.class_offset :]
            anchors, classes = np.nonzero(scores >= self.output.score_floor)
            return boxes[anchors], scores[anchors, classes], classes
        kept = np.flatnonzero(scores >= self.output.score_floor)
        classes = self.kinds(tensors[class_name][index][kept]) - self.output.class_offset
        return boxes[kept], scores[kept], classes


class Yolo(Boxes):
    """Three layouts, told apart by their shape, A anchors and C labels:

    - `[N, 4 + C, A]` (v8 and on; also transposed): centre x, centre y, width, height in view pixels, one score a label;
    - `[N, A, 5 + C]` (v5, v7): the same with an objectness before the labels, which multiplies them;
    - `[N, A, 6]` (v10 and on, suppressed inside): x1, y1, x2, y2, score, class.
    """

    def check(self, shapes: Shapes) -> None:
        shape = shapes[self._name(list(shapes))]
        if shape and None not in shape[1:]:
            self._layout(cast("tuple[int, ...]", (1, *shape[1:])))
        elif shape and (len(shape) != 3 or {4 + len(self.labels), 5 + len(self.labels), 6}.isdisjoint(shape[1:])):
            raise self.mismatch(shape, self._expected)

    @property
    def _expected(self) -> str:
        c = len(self.labels)
        return f"[N, {4 + c}, A], [N, A, {5 + c}] or [N, A, 6] is expected"

    def _name(self, names: list[str]) -> str:
        return self.pick(names, self.output.scores or self.output.boxes, ["output0", "output", names[0]])

    def _layout(self, shape: tuple[int, ...]) -> str:
        c = len(self.labels)
        if len(shape) == 3:
            if shape[1] == 4 + c and shape[2] != 5 + c:
                return "v8"
            if shape[2] == 5 + c and not (shape[2] == 6 and shape[1] <= 1000):
                return "v5"
            if shape[2] == 4 + c:
                return "v8t"
            if shape[2] == 6:
                return "end"
            if shape[1] == 4 + c:
                return "v8"
        raise self.mismatch(shape, self._expected)

    def candidates(self, tensors: Tensors, index: int) -> tuple[Array, Array, Array]:
        values = tensors[self._name(list(tensors))]
        try:
            layout = self._layout(values.shape)
        except InputError as error:
            raise StageError(str(error)) from None
        rows = values[index].T if layout == "v8" else values[index]
        if layout == "end":
            scores = self.scores(rows[:, 4])
            kept = np.flatnonzero(scores >= self.output.score_floor)
            return rows[kept, :4], scores[kept], self.kinds(rows[kept, 5])
        scores = self.scores(rows[:, 5:]) * self.scores(rows[:, 4:5]) if layout == "v5" else self.scores(rows[:, 4:])
        anchors, classes = np.nonzero(scores >= self.output.score_floor)
        return corners(rows[anchors, :4]), scores[anchors, classes], classes


class Torchvision(Boxes):
    """Padded lists as `runtimes.base.Tensors` describes them: boxes in view pixels, suppressed by the model."""

    suppresses: ClassVar[bool] = False

    def check(self, shapes: Shapes) -> None:
        for name in ("boxes", "scores", "labels", "counts") if shapes else ():
            self.pick(list(shapes), name, [name])

    def candidates(self, tensors: Tensors, index: int) -> tuple[Array, Array, Array]:
        count = int(tensors["counts"][index])
        scores = self.scores(tensors["scores"][index][:count])
        kept = np.flatnonzero(scores >= self.output.score_floor)
        classes = tensors["labels"][index][kept].astype(np.int64) - self.output.class_offset
        return tensors["boxes"][index][kept], scores[kept], classes


class Heatmap(Boxes):
    """Maps `[N, C, h, w]`: of each label, how likely it is that something's middle lies in a cell, local maxima alone.
    Four more channels, where there are any, are the distances in view pixels from a cell's middle to the left, top,
    right and bottom of its box; without them a finding is as large as three cells."""

    cell_radius: ClassVar[float] = 1.5

    def check(self, shapes: Shapes) -> None:
        shape = shapes[self._name(list(shapes))]
        c = len(self.labels)
        if shape and (len(shape) != 4 or shape[1] not in {c, c + 4, None}):
            raise self.mismatch(shape, f"maps [N, {c}, h, w] or [N, {c + 4}, h, w] are expected")

    def _name(self, names: list[str]) -> str:
        return self.pick(names, self.output.scores, ["maps", names[0]])

    def read(self, tensors: Tensors, views: Sequence[View]) -> list[Findings]:
        maps = tensors[self._name(list(tensors))]
        return [self._findings(*self._peaks(maps[i], view.pixels.shape), view) for i, view in enumerate(views)]

    def candidates(self, tensors: Tensors, index: int) -> tuple[Array, Array, Array]:
        return self._peaks(tensors[self._name(list(tensors))][index], (self.height, self.width))

    def _peaks(self, maps: Array, pixels: tuple[int, ...]) -> tuple[Array, Array, Array]:
        c = len(self.labels)
        scores = self.scores(maps[:c])
        kinds, rows, columns = np.nonzero(scores >= self.output.score_floor)
        down, across = pixels[0] / maps.shape[1], pixels[1] / maps.shape[2]
        middles = np.stack([(columns + 0.5) * across, (rows + 0.5) * down], 1)
        if len(maps) == c:
            reach = np.full((len(rows), 4), self.cell_radius) * [across, down, across, down]
        else:
            reach = maps[c:, rows, columns].T
        boxes = np.concatenate([middles - reach[:, :2], middles + reach[:, 2:]], 1).astype(np.float32)
        return boxes, scores[kinds, rows, columns], kinds
