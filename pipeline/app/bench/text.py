"""Messages through the whole pipeline: the cheap stage, the cascade, one message by itself; what attention costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

import numpy as np

from pipeline.app.bench.measure import core_seconds, in_turns, rate
from pipeline.app.bench.models import cascade
from pipeline.app.bench.report import Report, Row, Scale, paired
from pipeline.app.bench.subject import run_through
from pipeline.core.contracts import Clear, Decision, Escalate, Flag, Generation, Source
from pipeline.core.media import Medium, Payload
from pipeline.core.plain import plain
from pipeline.core.records import Chunk, Findings, Item
from pipeline.core.text import Text

_SAID = (
    "good morning everyone how is the stream today", "lol that was close", "can somebody tell me the score please",
    "this song again?? love it", "what time does the second half start", "he is SO good at this", "你好 大家好",
    "first time here, greetings from Lisbon", "turn the mic up a bit", "that referee is blind", "gg wp",
    "my grandma drives faster than that", "is the replay going to be on the channel later tonight or tomorrow",
)  # fmt: skip
_NAMES = ("anna", "bo", "chen", "dmitri", "eve", "fatima", "gus", "hana")
_BUDGET_MS = 10.0


def messages(count: int, seed: int = 0) -> list[str]:
    """Nobody's words, none like another."""
    rng = np.random.default_rng(seed)
    return [f"@{rng.choice(_NAMES)} {rng.choice(_SAID)} {rng.choice(_SAID)} {number}" for number in range(count)]


class Said(Source):
    """Messages from memory."""

    medium: ClassVar[Medium] = "text"
    texts: tuple[str, ...]
    every_s: float = 0.0

    def open(self, stream: str) -> _Saying:
        return _Saying(stream, self.texts, self.every_s)


@dataclass
class _Saying:
    stream: str
    texts: Sequence[str]
    every_s: float
    epoch: str = "bench"

    def __iter__(self) -> Iterator[Item]:
        for seq, text in enumerate(self.texts):
            if self.every_s:
                time.sleep(self.every_s)
            yield Chunk(self.stream, self.epoch, seq, seq, 0, time.monotonic_ns(), time.time_ns(), Text(text))

    def close(self) -> None:
        """Nothing is open."""


class Alone:
    """What the cheap stage says stands."""

    def check(self, cheap: Sequence[str], heavy: Sequence[str] | None) -> list[str]:
        return []

    def decide(self, cheap: Findings) -> Decision:
        return Clear()

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Clear | Flag:
        return Clear()


def bench(scale: Scale) -> Report:
    judged_by = cascade("chat")
    assert judged_by.heavy is not None
    cheap = Generation("bench-cheap", judged_by.cheap, None, Alone())
    heavy = Generation("bench-heavy", judged_by.heavy, None, Alone())
    said = tuple(messages(scale.of(40_000, 400)))
    some = said[: scale.of(4_000, 100)]
    pairs = scale.of(6, 1)
    whole, few = Said(texts=said), Said(texts=some)
    heavy_rate = rate(lambda: run_through(few, heavy))
    rows = [
        paired(
            "text: cheap stage, messages from memory", "messages/s",
            in_turns(rate(lambda: run_through(whole, cheap)), heavy_rate, pairs),
            note="baseline: the heavy stage alone",
        ),
        paired(
            "text: cascade, messages from memory", "messages/s",
            in_turns(rate(lambda: run_through(few, judged_by)), heavy_rate, pairs),
            note=f"{_escalated(judged_by, some):.0%} of them go to the heavy stage; baseline: that alone",
        ),
        Row("text: normalisation, of one core", 1e6 * core_seconds(lambda: sum(map(bool, map(plain, said)))), "µs"),
    ]  # fmt: skip
    rows += _alone(judged_by, scale)
    rows += _attention(scale)
    return Report(rows, {"cheap": judged_by.cheap.describe(), "heavy": judged_by.heavy.describe()})


def _escalated(judged_by: Generation, said: Sequence[str]) -> float:
    """The share of messages that the heavy stage sees."""
    stage = judged_by.cheap
    payloads: list[Payload] = [Text(one) for one in said]
    views = [payload.view(stage.spec) for payload in payloads]
    size = stage.max_batch
    found = [one for start in range(0, len(views), size) for one in stage.score(views[start : start + size])]
    return sum(isinstance(judged_by.rule.decide(one), Escalate) for one in found) / len(found)


def _alone(judged_by: Generation, scale: Scale) -> list[Row]:
    """One message at a time: from its arrival to its outcome."""
    from pipeline.app.bench.subject import latencies

    source = Said(texts=tuple(messages(scale.of(2_000, 50), 1)), every_s=0.005, overflow="drop_oldest")
    taken = sorted(latencies(source, judged_by))
    p50, p99 = (1e3 * float(np.quantile(taken, q)) for q in (0.5, 0.99))
    return [
        Row("text: one message at a time, p50", p50, "ms"),
        Row("text: one message at a time, p99", p99, "ms", at_most=_BUDGET_MS, note=f"{len(taken)} messages"),
    ]


def _attention(scale: Scale) -> list[Row]:
    """Milliseconds of the heavy stage's attention by length, windows against all with all."""
    try:
        import torch

        from detectors.networks.text import LocalGlobalAttention
    except ImportError:
        return []
    width, heads, window = 96, 4, 16
    local = LocalGlobalAttention(width, heads, window, 0.0).eval()
    whole = torch.nn.MultiheadAttention(width, heads, batch_first=True).eval()
    lengths = [64, 128] if scale.quick else [256, 1024, 4096]
    rows: list[Row] = []
    with torch.inference_mode():
        for length in lengths:
            x, there, tokens = torch.randn(1, length, width), torch.ones(1, length, 1), torch.randn(1, 2, width)
            ours = _median_ms(lambda: local(x, there, tokens))  # noqa: B023  # called at once
            all_ = _median_ms(lambda: whole(x, x, x, need_weights=False))  # noqa: B023
            figure = f"text: attention over {length} places"
            rows.append(Row(figure, ours, "ms", all_, ours / all_, note="baseline: all with all"))
    return rows


def _median_ms(work: object, times: int = 15) -> float:
    assert callable(work)
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - begun))
    return median(taken[2:])
