"""1080p from a file: against what decoding, converting and judging cost by themselves, and against decoding alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.video.frame import VideoFrame

from detectors.gates.motion import Motion
from pipeline.app.bench.clips import Clip
from pipeline.app.bench.machine import cores
from pipeline.app.bench.measure import core_seconds, in_turns, rate
from pipeline.app.bench.models import WarmStage, stage
from pipeline.app.bench.report import Report, Row, Scale, paired
from pipeline.app.bench.subject import generation, run_through
from pipeline.core.payloads import FrameImage
from sources.file import File

_HELD = 32  # decoded frames to convert again and again: 100 MiB


def file_bench(scale: Scale) -> Report:
    clip = Clip("moving", seconds=scale.of(20, 1)).made()
    network = stage("mobilenet-v3-small", "bf16")
    judged_by = generation(network)
    source = File.model_validate({"path": clip})
    steps: dict[str, list[float]] = {"decode": [], "convert": [], "infer": []}

    def ceiling() -> float:
        spent = _alone(clip, network, source.threads)
        for name, seconds in spent.items():
            steps[name].append(seconds)
        return cores() / sum(spent.values())

    pairs = in_turns(rate(lambda: run_through(source, judged_by)), ceiling, scale.of(9, 1), warm=1)
    rows = [
        paired(
            "file: 1080p H.264, MobileNetV3-Small on every frame", "frames/s", pairs, 0.9,
            f"baseline: {cores()} cores ÷ core-milliseconds of decode, convert, infer alone",
        )
    ]  # fmt: skip
    rows += [
        Row(f"file: {name} alone", 1e3 * sorted(taken)[len(taken) // 2], "core ms/frame")
        for name, taken in steps.items()
    ]
    return Report(rows, {"stage": network.describe(), "clip": clip.name})


def _alone(clip: Path, network: WarmStage, threads: int) -> dict[str, float]:
    """Core seconds a frame of each step by itself."""
    with av.open(str(clip)) as container:
        frames = list(islice(_decoded(container, threads), _HELD))
    spec = network.model.manifest.picture.spec()
    views = [FrameImage(frame).view(spec) for frame in frames]
    batches = [views[start : start + network.max_batch] for start in range(0, len(views), network.max_batch)]
    return {
        "decode": core_seconds(lambda: decode(clip, threads)),
        "convert": core_seconds(lambda: sum(FrameImage(frame).view(spec) is not None for frame in frames * 4)),
        "infer": core_seconds(lambda: sum(len(network.score(batch)) for batch in batches * 8)),
    }


def still_bench(scale: Scale) -> Report:
    clip = Clip("still", seconds=scale.of(20, 1)).made()
    network = stage("mobilenet-v3-small", "bf16")
    judged_by = generation(network)
    source = File.model_validate({"path": clip})
    pairs = in_turns(
        rate(lambda: run_through(source, judged_by, Motion().start())),
        rate(lambda: decode(clip, source.threads)),
        scale.of(11, 1),
    )
    return Report(
        [
            paired(
                "still: noisy still 1080p behind the motion gate", "frames/s", pairs, 0.9,
                "baseline: decoding alone, same threads",
            )
        ],
        {"stage": network.describe(), "clip": clip.name},
    )  # fmt: skip


def decode(clip: Path, threads: int) -> int:
    """Decode all of `clip` with so many frame threads; how many frames there were."""
    with av.open(str(clip)) as container:
        return sum(1 for _ in _decoded(container, threads))


def _decoded(container: InputContainer, threads: int) -> Iterator[VideoFrame]:
    stream = container.streams.video[0]
    stream.codec_context.thread_count = threads
    stream.codec_context.thread_type = ThreadType.AUTO
    return container.decode(stream)
