"""A show: pictures, sound and chat at their own pace, each through its own cascade, and how soon one policy decides."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
from av.audio.frame import AudioFrame
from pydantic import ConfigDict, Field

from detectors.choice import ModelChoice, build_stage
from detectors.gates.voice import Voice
from detectors.rules.boxes import Boxes
from pipeline.app.bench.models import cascade
from pipeline.app.bench.report import Report, Row, Scale
from pipeline.app.bench.speech import RATE, Talk, talk
from pipeline.app.bench.subject import started
from pipeline.app.bench.text import Said, messages
from pipeline.app.demo import CLIP
from pipeline.core.contracts import Delivery, Generation, Sink, Writer
from pipeline.core.errors import ThresherError
from pipeline.core.rulings import Ruling
from pipeline.engine.pipeline import Pipeline, StreamPlan
from pipeline.engine.policy_settings import PolicySettings
from sources.file import File

_BUDGET_MS = 150.0
_CHAT_EVERY_S = 0.05
_RUDE_EVERY = 7


def bench(scale: Scale) -> Report:
    with tempfile.TemporaryDirectory() as there:
        return _bench(Path(there), float(scale.of(20, 6)))


def _bench(folder: Path, seconds: float) -> Report:
    film = _film(folder / "show.mp4", talk(folder, seconds, 0.25))
    pictures = Generation(
        "bench-pictures",
        build_stage(ModelChoice(model="nsfw-mobilenet")),
        build_stage(ModelChoice(model="open-nsfw")),
        Boxes(report={"neutral": 0.3}, flag=(), escalate={"porn": 0.15}, region="whole", confirm={"unsafe": 0.5}),
    )
    words, chat = cascade("words"), cascade("chat")
    said = [
        "you are such an idiot, shut up" if number % _RUDE_EVERY == 0 else text
        for number, text in enumerate(messages(round(seconds / _CHAT_EVERY_S)))
    ]
    source = File.model_validate(
        {"path": film, "realtime": True, "max_fps": 10, "latency_budget_ms": 1000, "sound": {"hop_s": 0.1}}
    ).fitted(words.cheap.spec, "sound")
    gate = Voice.model_validate({}).fitted(words.cheap.spec).start()
    plans = [
        StreamPlan(
            "cam", source, "pictures", pictures, tracks=(StreamPlan("cam.sound", source, "words", words, gate),)
        ),
        StreamPlan("chat", Said(texts=tuple(said), every_s=_CHAT_EVERY_S, overflow="drop_oldest"), "chat", chat),
    ]
    sink = Ruled()
    pipeline = Pipeline(plans, {"ruled": sink}, policy=_policy(words.cheap.labels))
    with started(pipeline):
        pipeline.wait(seconds + 60)
        streams = {one.stream: one for one in pipeline.snapshot().streams}
    if not sink.heard.taken:
        raise ThresherError(f"nothing was decided, of { ({name: one.results for name, one in streams.items()}) }")
    p50, p99 = (float(np.quantile(sink.heard.taken, q)) for q in (0.5, 0.99))
    note = f"{len(sink.heard.taken)} decisions in {seconds:g} s; from the newest arrival that contributed"
    rows = [
        Row("show: decision, p50", p50, "ms", note=note),
        Row("show: decision, p99", p99, "ms", at_most=_BUDGET_MS, note=note),
        *(Row(f"show: {name}, windows with a verdict", one.results / max(one.windows, 1), "share",
              note=f"{one.windows} windows, {dict(one.decided_by)}") for name, one in streams.items()),
    ]  # fmt: skip
    return Report(rows, {name: one.cascade for name, one in streams.items()})


def _policy(words: Sequence[str]) -> PolicySettings:
    """All three together, whatever the word."""
    rules: list[Mapping[str, Any]] = [
        {
            "name": f"together-{word}",
            "when": [
                {"stream": "cam", "label": "neutral"},
                {"stream": "cam.sound", "label": word},
                {"stream": "chat", "label": "offensive"},
            ],
            "action": "blur",
            "targets": ["cam"],
            "hold_s": 0.2,
        }
        for word in words
    ]
    rules += [
        {
            "name": f"rude-{label}",
            "when": [{"stream": "chat", "label": label}],
            "within_s": 0.1,
            "action": "mute",
            "hold_s": 0.05,
        }
        for label in ("hate", "offensive")
    ]
    return PolicySettings.model_validate({"show": "bench", "window_s": 2, "rules": rules})


@dataclass
class Heard:
    """Milliseconds from the newest arrival to each new ruling."""

    taken: list[float] = field(default_factory=list)


class Ruled(Sink):
    """Notes how soon the policy ruled."""

    takes: ClassVar[frozenset[str]] = frozenset({"rulings"})
    model_config = ConfigDict(arbitrary_types_allowed=True)
    heard: Heard = Field(default_factory=Heard, exclude=True)

    def open(self) -> Writer:
        return _Noting(self.heard)


class _Noting:
    def __init__(self, heard: Heard) -> None:
        self._heard = heard

    def write(self, items: Sequence[Delivery]) -> None:
        self._heard.taken += [
            (item.done_ns - item.newest_ns) / 1e6 for item in items if isinstance(item, Ruling) and item.kind == "new"
        ]

    def close(self) -> None:
        """Nothing is open."""


def _film(path: Path, said: Talk) -> Path:
    """The demo's pictures as they are, with that sound beside them."""
    samples = said.samples
    with av.open(str(CLIP)) as clip, av.open(str(path), "w") as out:
        pictures = clip.streams.video[0]
        video = out.add_stream_from_template(pictures)
        sound = out.add_stream("aac", rate=RATE)
        sound.layout = "mono"
        for packet in clip.demux(pictures):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        for start in range(0, len(samples), 1024):
            frame = AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, start
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return path
