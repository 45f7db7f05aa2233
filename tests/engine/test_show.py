"""A policy over whole pipelines: threads, stages, sinks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
from parts import Brightness, Levels, generation, grey

from pipeline.core.contracts import Clear, Flag, Generation, Source
from pipeline.core.media import Medium
from pipeline.core.records import Chunk, Detection, Findings, Item, Outcome, Result, SourceState, Watermark
from pipeline.core.settings import StreamSettings
from pipeline.core.snapshot import PolicySnapshot
from pipeline.core.sound import Sound, SoundSpec, SoundView
from pipeline.core.text import Text, TextSpec, TextView
from pipeline.engine.pipeline import Pipeline, StreamPlan
from pipeline.engine.policy_settings import PolicySettings
from pipeline.engine.show import model_of
from sinks.memory import Collector
from sinks.memory import Memory as MemorySink
from sources.memory import LiveMemory, Memory, Pause

S = 1_000_000_000
RATE = 1000


class Chat(Source):
    """Messages at their seconds of media time; with `live`, when that has passed."""

    medium: ClassVar[Medium] = "text"
    messages: tuple[tuple[float, str], ...]
    realtime: bool = False
    answered: Any = None

    @property
    def paced(self) -> bool:
        return self.realtime

    def open(self, stream: str) -> ChatReader:
        return ChatReader(self, stream)


class ChatReader:
    epoch = "chat-epoch"

    def __init__(self, plan: Chat, stream: str) -> None:
        self._plan, self._stream, self._closed = plan, stream, False

    def __iter__(self) -> Iterator[Item]:
        began = time.monotonic()
        for seq, (at_s, text) in enumerate(self._plan.messages):
            while self._plan.realtime and (left := began + at_s - time.monotonic()) > 0 and not self._closed:
                time.sleep(min(left, 0.05))
                yield Watermark(self._stream, round((time.monotonic() - began) * S))
            if self._closed:
                return
            answer = self._plan.answered
            yield Chunk(
                self._stream, self.epoch, seq, round(at_s * S), 0, time.monotonic_ns(), time.time_ns(), Text(text),
                answer=answer,
            )  # fmt: skip

    def close(self) -> None:
        self._closed = True


class Track(StreamSettings):
    """Of sound beside pictures."""


class Film(Source):
    """Pictures of these brightnesses, five a second, and a fifth of a second of sound of this loudness beside each."""

    levels: tuple[tuple[int, float], ...]

    @property
    def tracks(self) -> Mapping[str, StreamSettings]:
        return {"sound": Track()}

    def open(self, stream: str) -> FilmReader:
        return FilmReader(self, stream)


class FilmReader:
    epoch = "film-epoch"

    def __init__(self, plan: Film, stream: str) -> None:
        self._plan, self._stream = plan, stream

    def __iter__(self) -> Iterator[Item]:
        from av import VideoFrame

        from pipeline.core.payloads import FrameImage

        step = S // 5
        for seq, (level, loud) in enumerate(self._plan.levels):
            image = FrameImage(VideoFrame.from_ndarray(grey(level), format="rgb24"))
            sound = Sound(np.full(RATE // 5, loud, np.float32), RATE, seq * step)
            for name, payload in ((self._stream, image), (f"{self._stream}.sound", sound)):
                now = time.monotonic_ns(), time.time_ns()
                yield Chunk(name, self.epoch, seq, seq * step, step, *now, payload)

    def close(self) -> None:
        pass


@dataclass
class Words:
    """Scores a word by how often it is said, or a sound by how loud it is."""

    name: str
    spec: Any
    labels: tuple[str, ...]
    max_batch: int = 8
    workers: int = 1
    said: list[int] = field(default_factory=list)

    def score(self, views: Sequence[Any]) -> Sequence[Findings]:
        return [Findings(self.labels, np.array([self._one(view)], np.float32), np.zeros(1, np.int64)) for view in views]

    def _one(self, view: TextView | SoundView) -> float:
        if isinstance(view, TextView):
            return float(self.labels[0].encode() in bytes(view.data))
        return float(np.abs(view.data).mean())

    def warm(self) -> None:
        pass

    def describe(self) -> dict[str, object]:
        return {"model": f"{self.name}-v1"}


@dataclass(frozen=True)
class From:
    """Reported from `report` on, flagged from `flag` on."""

    label: str
    report: float = 0.1
    flag: float = 0.9

    def check(self, cheap: Sequence[str], heavy: Sequence[str] | None) -> list[str]:
        return []

    def decide(self, cheap: Findings) -> Clear | Flag:
        score = float(cheap.scores[0])
        found = (Detection(self.label, score),) if score >= self.report else ()
        return Flag(found) if score >= self.flag else Clear(found)

    def merge(self, cheap: Findings, heavy: Sequence[Findings]) -> Clear | Flag:
        return self.decide(heavy[0])


def listens() -> Generation:
    return Generation("ears@1", Words("ears", SoundSpec(RATE, RATE // 5), ("loud",)), None, From("loud"))


def reads(word: str = "hate") -> Generation:
    return Generation("words@1", Words("words", TextSpec(64), (word,)), None, From(word))


def sees() -> Generation:
    return Generation("eyes@1", Brightness("eyes"), None, From("bright", 0.2, 0.95))


def rules(*given: dict[str, Any], **options: Any) -> PolicySettings:
    return PolicySettings.model_validate({"show": "evening", "rules": given, **options})


def run(
    plans: list[StreamPlan], policy: PolicySettings, *, wait_s: float = 30.0, stop_after_s: float | None = None
) -> tuple[PolicySnapshot, Collector]:
    sink = MemorySink()
    pipeline = Pipeline(plans, {"memory": sink}, policy=policy)
    pipeline.start()
    if stop_after_s is None:
        assert pipeline.wait(wait_s), "it did not finish"
    else:
        pipeline.wait(stop_after_s)
    pipeline.stop()
    said = pipeline.snapshot().policy
    assert said is not None
    return said, sink.collector


HATE = {"name": "hate", "when": [{"stream": "chat", "label": "hate", "at_least": 0.8}], "action": "block", "hold_s": 1}
TOGETHER = {
    "name": "together",
    "when": [
        {"stream": "cam", "label": "bright", "at_least": 0.3},
        {"stream": "cam.sound", "label": "loud", "at_least": 0.3},
        {"stream": "chat", "label": "hate"},
    ],
    "action": "blur",
    "targets": ["cam"],
}


def show(chat: tuple[tuple[float, str], ...], levels: tuple[tuple[int, float], ...]) -> list[StreamPlan]:
    film = Film(levels=levels)
    sound = StreamPlan("cam.sound", film, "ears", listens())
    return [
        StreamPlan("cam", film, "eyes", sees(), tracks=(sound,)),
        StreamPlan("chat", Chat(messages=chat), "words", reads()),
    ]


def test_picture_sound_and_chat_together_raise_what_none_would_alone() -> None:
    levels = tuple((100 if seq == 5 else 10, 0.5 if seq == 9 else 0.0) for seq in range(40))
    for chat, acts in (((0.5, "hi"), (2.5, "i hate it")), True), (((0.5, "hi"), (6.5, "i hate it")), False):
        said, collector = run(show(chat, levels), rules(TOGETHER))
        assert not any(result.flagged for result in collector.results if result.window.stream.startswith("cam"))
        assert [one.kind for one in collector.rulings] == (["new", "end"] if acts else [])
        assert said.ruled == ({"blur": 1} if acts else {})
        if acts:
            begun = collector.rulings[0]
            assert begun.targets == ("cam",)
            assert [(one.stream, one.model) for one in begun.evidence] == [
                ("cam", "eyes"),
                ("cam.sound", "ears-v1"),
                ("chat", "words-v1"),
            ]
            assert begun.id == "evening/together/chat/chat-epoch/1"
            assert (begun.start_ns, begun.end_ns) == (1 * S, round(4.5 * S))
            assert begun.latency_ns >= 0


def test_a_replay_gives_the_same_ids() -> None:
    chat = tuple((at / 4, "i hate it" if at % 3 else "hi") for at in range(40))
    levels = tuple((seq * 7 % 255, seq % 11 / 10) for seq in range(60))
    runs = [run(show(chat, levels), rules(HATE, TOGETHER))[1].rulings for _ in range(3)]
    ids = [{(one.id, one.start_ns) for one in rulings if one.kind == "new" and one.rule == "hate"} for rulings in runs]
    assert ids[0] and ids[0] == ids[1] == ids[2]
    for rulings in runs:
        begun = [one.id for one in rulings if one.kind == "new"]
        assert sorted(begun) == sorted(one.id for one in rulings if one.kind == "end")
        assert len(set(begun)) == len(begun)


def test_each_outcome_says_what_it_calls_for_by_itself_also_to_who_waits_for_it() -> None:
    answers: list[Outcome] = []
    chat = Chat(messages=((0.1, "hi"), (0.2, "i hate it")), answered=answers.append)
    _, collector = run([StreamPlan("chat", chat, "words", reads())], rules(HATE))
    assert [(one.action, one.rule) for one in collector.results] == [("allow", ""), ("block", "hate")]
    assert answers == collector.results


def test_without_a_policy_outcomes_say_nothing_of_actions() -> None:
    sink = MemorySink()
    pipeline = Pipeline([StreamPlan("chat", Chat(messages=((0, "hi"),)), "words", reads())], {"memory": sink})
    pipeline.start()
    assert pipeline.wait(10)
    pipeline.stop()
    assert [one.action for one in sink.collector.results] == [None]
    assert pipeline.snapshot().policy is None


def test_streams_of_no_show_are_left_alone() -> None:
    plans = [
        StreamPlan(name, Chat(messages=((0.1, "i hate it"),)), "words", generation_of) for name, generation_of in
        ((name, words) for words in (reads(),) for name in ("chat", "other"))
    ]  # fmt: skip
    _, collector = run(plans, rules({**HATE, "when": [{"label": "hate"}]}, streams={"chat": None}))
    assert {(one.window.stream, one.action) for one in collector.results} == {("chat", "block"), ("other", None)}
    assert {one.targets for one in collector.rulings} == {("chat",)}


def test_a_silent_or_hanging_stream_holds_no_decision_and_no_end() -> None:
    """The camera's model hangs, and its picture never gets a verdict; chat is ruled all the same, and ends in time."""
    stuck = threading.Event()
    cam = LiveMemory(script=[grey(100), Pause(30)], latency_budget_ms=20_000)
    chat = Chat(messages=((0.2, "i hate it"), (4.0, "bye")), realtime=True)
    policy = rules({**HATE, "hold_s": 0.3}, window_s=0.5)
    plans = [
        StreamPlan("cam", cam, "eyes", generation(Brightness(hang=stuck), None, Levels())),
        StreamPlan("chat", chat, "words", reads()),
    ]
    sink = MemorySink()
    pipeline = Pipeline(plans, {"memory": sink}, policy=policy)
    pipeline.start()
    end = time.monotonic() + 10
    while len(sink.collector.rulings) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    begun, over = sink.collector.rulings
    stuck.set()
    pipeline.stop(5)
    assert (begun.kind, over.kind) == ("new", "end")
    assert begun.missing == ("cam",)
    assert begun.latency_ns < S
    assert over.done_ns - begun.done_ns < 2 * S


def test_an_action_that_goes_on_when_the_program_stops_ends_with_it() -> None:
    chat = Chat(messages=((0.1, "i hate it"), (60.0, "bye")), realtime=True)
    said, collector = run([StreamPlan("chat", chat, "words", reads())], rules({**HATE, "hold_s": 50}), stop_after_s=1.0)
    assert [one.kind for one in collector.rulings] == ["new", "end"]
    assert said.open == {}
    assert said.latency.count == 1


def test_rulings_come_behind_the_outcome_that_completed_them() -> None:
    levels = tuple((100, 0.5) for _ in range(30))
    chat = tuple((at / 2, "i hate it") for at in range(12))
    _, collector = run(show(chat, levels), rules(HATE, TOGETHER))
    told: set[str] = set()
    for item in collector.items:
        if isinstance(item, Result):
            told.add(item.window.id)
        elif not isinstance(item, Outcome) and hasattr(item, "evidence") and item.kind == "new":
            assert {one.window for one in item.evidence} <= told


def test_pictures_alone_can_be_a_show_of_their_own() -> None:
    bright = {"name": "bright", "when": [{"label": "bright", "at_least": 0.7, "count": 3}], "action": "flag"}
    source = Memory(script=[grey(20), *[grey(220)] * 4, *[grey(20)] * 100])
    said, collector = run([StreamPlan("s", source, "eyes", generation())], rules(bright, window_s=1))
    assert [one.kind for one in collector.rulings] == ["new", "end"]
    assert collector.rulings[0].id.endswith("/3")
    assert said.ruled == {"flag": 1}


class Leaping(Film):
    """Live; behind each second the camera's clock leaps by so much, of both tracks one after the other."""

    live: ClassVar[bool] = True
    leaps_s: tuple[float, ...] = ()

    def open(self, stream: str) -> FilmReader:
        return LeapingReader(self, stream)


class LeapingReader(FilmReader):
    def __init__(self, plan: Leaping, stream: str) -> None:
        super().__init__(plan, stream)
        self._leaps_ns = [round(leap_s * S) for leap_s in plan.leaps_s]

    def __iter__(self) -> Iterator[Item]:
        began = time.monotonic()
        for chunk in super().__iter__():
            assert isinstance(chunk, Chunk)
            if chunk.payload.medium == "picture":
                time.sleep(max(0.0, began + chunk.pts_ns / S - time.monotonic()))
            leap_ns = sum(self._leaps_ns[: chunk.pts_ns // S])
            chunk.payload.move(leap_ns)
            now = time.monotonic_ns(), time.time_ns()
            yield replace(chunk, pts_ns=chunk.pts_ns + leap_ns, mono_ns=now[0], wall_ns=now[1])


@pytest.mark.parametrize("leap_s", [3600, -3600])
def test_a_camera_whose_clock_leaps_is_still_judged_together_with_its_sound(leap_s: float) -> None:
    both = {**TOGETHER, "when": TOGETHER["when"][:2], "hold_s": 0.1}  # type: ignore[index]
    levels = tuple((100 if seq in {8, 13} else 10, 0.5 if seq in {8, 13} else 0.0) for seq in range(16))
    film = Leaping(levels=levels, leaps_s=(leap_s, 0))
    sound = StreamPlan("cam.sound", film, "ears", listens())
    plans = [StreamPlan("cam", film, "eyes", sees(), tracks=(sound,))]
    said, collector = run(plans, rules(both, window_s=0.5), stop_after_s=4.5)
    assert said.ruled == {"blur": 2} and said.late == 0
    assert [one.end_ns - one.start_ns < S for one in collector.rulings if one.kind == "end"] == [True, True]


class Deaf(Film):
    """A film of which nobody knew that it has no sound; behind a tenth of a second there is some, or there never is."""

    live: ClassVar[bool] = True
    found: tuple[str, ...] = ()

    def open(self, stream: str) -> FilmReader:
        return DeafReader(self, stream)


class DeafReader(FilmReader):
    def __init__(self, plan: Deaf, stream: str) -> None:
        super().__init__(plan, stream)
        self.tracks = plan.found
        self._name = stream

    def __iter__(self) -> Iterator[Item]:
        for chunk in super().__iter__():
            time.sleep(0.02)
            if self.tracks or chunk.stream == self._name:
                yield chunk
        for _ in range(100):
            time.sleep(0.02)
            yield Watermark(self._name, 0)


@pytest.mark.parametrize("found", [(), ("sound",)])
def test_a_track_that_is_not_there_is_neither_waited_for_nor_missing(found: tuple[str, ...]) -> None:
    bright = {"name": "bright", "when": [{"stream": "cam", "label": "bright", "at_least": 0.3}], "action": "flag"}
    film = Deaf(levels=((100, 0.0), (40, 0.0), (40, 0.0)), found=found)
    plan = StreamPlan("cam", film, "eyes", sees(), tracks=(StreamPlan("cam.sound", film, "ears", listens()),))
    sink = MemorySink()
    pipeline = Pipeline([plan], {"memory": sink}, policy=rules(bright))
    pipeline.start()
    pipeline.wait(1.0)
    told = {one.stream: (one.state, one.detail) for one in pipeline.snapshot().streams}
    pipeline.stop(2)
    assert told["cam"] == (SourceState.LIVE, "")
    assert told["cam.sound"] == (
        (SourceState.LIVE, "") if found else (SourceState.ENDED, "there is no such track in it")
    )
    assert sink.collector.rulings[0].missing == (("cam.sound",) if found else ())


def test_what_was_wrong_with_a_stream_is_over_when_it_comes_again() -> None:
    film = Leaping(levels=((100, 0.5),) * 2)
    sound = StreamPlan("cam.sound", film, "ears", listens())
    pipeline = Pipeline([StreamPlan("cam", film, "eyes", sees(), tracks=(sound,))], {"memory": MemorySink()})
    details = [stream.detail for stream in pipeline._roster.streams]
    assert details == ["", ""]
    for stream in pipeline._roster.streams:
        stream.detail = "it broke off"
    pipeline.start()
    end = time.monotonic() + 5
    while any(stream.detail for stream in pipeline._roster.streams) and time.monotonic() < end:
        time.sleep(0.002)
    assert not any(stream.detail for stream in pipeline._roster.streams)
    pipeline.stop(2)


def test_evidence_from_the_cache_names_the_models_that_may_have_judged() -> None:
    chat = Chat(messages=tuple((at_s, "i hate it") for at_s in (0.1, 20.0, 40.0)))
    words = replace(reads(), remembers=8)
    _, collector = run([StreamPlan("chat", chat.model_copy(update={"in_flight": 1}), "words", words)], rules(HATE))
    seen = [one.evidence[0] for one in collector.rulings if one.kind == "new"]
    assert [(one.decided_by, one.model) for one in seen] == [("words", "words-v1"), *[("cache", "words-v1")] * 2]
    both = Generation("two@1", Brightness("cheap"), Brightness("heavy"), Levels())
    assert [model_of(both, by) for by in ("cheap", "heavy", "cache")] == ["cheap", "heavy", "cheap or heavy"]
