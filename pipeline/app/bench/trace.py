"""What traces cost: the same pictures and messages with a share of them traced and without, in processor time, which
other programs on the machine disturb least. What is traced is encoded as it would be sent, and sent nowhere."""

from __future__ import annotations

from collections.abc import Sequence

import av

from pipeline.app.bench.clips import SOURCE
from pipeline.app.bench.measure import in_turns
from pipeline.app.bench.models import cascade, stage
from pipeline.app.bench.report import Report, Row, Scale, paired
from pipeline.app.bench.subject import cost_of, generation
from pipeline.app.bench.text import Alone, Said, messages
from pipeline.app.tracing import Tracing
from pipeline.core.contracts import Generation, Source
from pipeline.core.errors import MissingPart
from pipeline.core.traces import Trace
from sources.memory import Memory

_SHARES = (0.0, 0.01)


class _Encoded:
    """Everything but the network."""

    def __init__(self) -> None:
        try:
            from pipeline.app.tracing_otlp import spans
        except ImportError as error:
            raise MissingPart("traces need some packages: pip install 'thresher[trace]'", "trace") from error
        self._spans = spans

    def export(self, traces: Sequence[Trace]) -> str:
        for trace in traces:
            for span in self._spans(trace):
                span.SerializeToString()
        return ""

    def close(self) -> None:
        """Nothing is open."""


def bench(scale: Scale) -> Report:
    network = stage("mobilenet-v3-small", "bf16", workers=1)
    with av.open(str(SOURCE)) as container:
        frames = list(container.decode(video=0))[: scale.of(200, 16)]
    pictures = Memory.model_validate({"script": frames, "repeat": scale.of(8, 1)})
    chat = cascade("chat").cheap
    said = Said(texts=tuple(messages(scale.of(20_000, 400))))
    rows = [
        row
        for what, source, judged_by in (
            ("pictures, MobileNetV3-Small", pictures, generation(network)),
            ("messages, the cheap stage", said, Generation("bench-chat", chat, None, Alone())),
        )
        for row in _rows(what, source, judged_by, scale.of(16, 2))
    ]
    return Report(rows, {"pictures": network.describe(), "messages": chat.describe()})


def _rows(what: str, source: Source, judged_by: Generation, pairs: int) -> list[Row]:
    def timed(share: float) -> float:
        with Tracing(share, _Encoded()) as traces:
            return cost_of(source, judged_by, traces)

    return [
        paired(
            f"trace: {what}, {share:.0%} traced", "µs/window",
            in_turns(lambda: 1e6 * timed(share), lambda: 1e6 * cost_of(source, judged_by), pairs),  # noqa: B023  # at once
            note="processor time; baseline: no traces",
        )
        for share in _SHARES
    ]  # fmt: skip
