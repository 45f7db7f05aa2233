"""ResNet-50: on every frame of 1080p against the loop that most people write, and by itself in its precisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from detectors.compression.parity import agreement, answers
from pipeline.app.bench.clips import Clip, pictures
from pipeline.app.bench.measure import in_turns, rate
from pipeline.app.bench.models import VIEW, Network, WarmStage, settled, stage
from pipeline.app.bench.report import Report, Row, Scale, paired
from pipeline.app.bench.subject import generation, run_through
from pipeline.core.errors import MissingPart
from pipeline.core.records import Array
from sources.file import File

_BATCH = 8


def bench(scale: Scale) -> Report:
    network: Network = "resnet-18" if scale.quick else "resnet-50"
    int8 = stage(network, "bf16", "int8")
    bf16 = stage(network, "bf16")
    eager = settled(network)
    clip = Clip("moving", seconds=scale.of(10, 1)).made()
    source = File.model_validate({"path": clip})
    judged_by = generation(int8)
    seen = pictures(VIEW, scale.of(64, 16), seed=1)  # not those it was calibrated on
    frames = scale.of(60, 2)

    film = in_turns(
        rate(lambda: run_through(source, judged_by)),
        rate(lambda: _as_most_people_write_it(clip, frames, eager)),
        scale.of(7, 1),
    )
    precisions = in_turns(rate(_alone(int8, seen, scale)), rate(_alone(bf16, seen, scale)), scale.of(15, 2))
    frameworks = in_turns(
        rate(_alone(int8, seen, scale)), rate(lambda: len(_in_eager(eager, seen[:_BATCH]))), scale.of(9, 1)
    )
    reference = _in_eager(eager, seen)
    rows = [
        paired(
            f"resnet: 1080p H.264, {network} on every frame", "frames/s", film, 8.0,
            "baseline: cv2.VideoCapture, cv2.resize, torch eager f32, one picture at a time",
        ),
        paired(f"resnet: {network} int8 against bf16, batch 8", "pictures/s", precisions, 1.5, "same runtime"),
        paired(f"resnet: {network} int8 against torch eager f32, batch 8", "pictures/s", frameworks, 8.0),
        *_outputs("int8", reference, answers(int8.session, seen)),
        *_outputs("bf16", reference, answers(bf16.session, seen)),
    ]  # fmt: skip
    said = {"int8": int8.describe(), "bf16": bf16.describe(), "clip": clip.name, "eager_threads": _threads()}
    return Report(rows, said)


def _alone(network: WarmStage, seen: Array, scale: Scale) -> Callable[[], int]:
    batch, times = seen[:_BATCH], scale.of(12, 1)

    def work() -> int:
        for _ in range(times):
            network.session.infer(batch)
        return times * len(batch)

    return work


def _outputs(form: str, reference: Array, candidate: Array) -> list[Row]:
    found = asdict(agreement(reference, candidate))
    note = f"{found['pictures']} pictures, 1000 logits of an untrained network, against torch eager f32"
    return [
        Row(f"resnet: {form} outputs, mean cosine", found["cosine"], "", note=note),
        Row(f"resnet: {form} outputs, same highest logit", found["top1"], "of pictures", note=note),
    ]


def _threads() -> int:
    import torch

    return int(torch.get_num_threads())


def _in_eager(network: Any, seen: Array) -> Array:
    import torch

    with torch.inference_mode():
        planar = torch.from_numpy(np.ascontiguousarray(seen)).permute(0, 3, 1, 2).float() / 255
        logits: Array = torch.cat([network(part) for part in planar.split(_BATCH)]).numpy()
    return logits


def _as_most_people_write_it(clip: Path, count: int, network: Any) -> int:
    try:
        import cv2
    except ImportError as error:
        raise MissingPart(f"OpenCV cannot be loaded ({error}): apt-get install libgl1 libglib2.0-0", "cv2") from None
    import torch

    capture, judged = cv2.VideoCapture(str(clip)), 0
    for _ in range(count):
        whole, frame = capture.read()
        if not whole:
            break
        small = cv2.cvtColor(cv2.resize(frame, (VIEW.width, VIEW.height)), cv2.COLOR_BGR2RGB)
        with torch.no_grad():
            network(torch.from_numpy(small).permute(2, 0, 1).unsqueeze(0).float() / 255).softmax(1).argmax()
        judged += 1
    capture.release()
    return judged
