"""What the engine costs: pictures from memory through a gate-less MobileNet, against the loop written by hand."""

from __future__ import annotations

from itertools import chain, repeat

import av

from pipeline.app.bench.clips import SOURCE
from pipeline.app.bench.measure import in_turns, rate
from pipeline.app.bench.models import stage
from pipeline.app.bench.report import Report, Scale, paired
from pipeline.app.bench.subject import generation, run_through
from pipeline.core.payloads import FrameImage
from sources.memory import Memory


def bench(scale: Scale) -> Report:
    network = stage("mobilenet-v3-small", "bf16", workers=1)  # a bare loop has one batch at a time
    judged_by = generation(network)
    with av.open(str(SOURCE)) as container:
        frames = list(container.decode(video=0))[: scale.of(200, 16)]
    repeats = scale.of(8, 1)
    source = Memory.model_validate({"script": frames, "repeat": repeats})

    def bare() -> int:
        views, judged = [], 0
        for frame in chain.from_iterable(repeat(frames, repeats)):
            views.append(FrameImage(frame).view(network.model.manifest.picture.spec()))
            if len(views) == network.max_batch:
                judged += len(network.score(views))
                views = []
        return judged + (len(network.score(views)) if views else 0)

    pairs = in_turns(rate(lambda: run_through(source, judged_by)), rate(bare), scale.of(24, 2))
    return Report(
        [
            paired(
                "engine: pictures from memory, MobileNetV3-Small", "frames/s", pairs, 0.95,
                "baseline: a bare loop of the same views and batches",
            )
        ],
        {"stage": network.describe(), "picture": f"{frames[0].width}×{frames[0].height}"},
    )  # fmt: skip
