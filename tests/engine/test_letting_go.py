"""What a failed call had in hand is freed when its failure was told, not when the garbage collector comes round."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest
from coming_parts import both, plan
from parts import Brightness, generation, grey

from pipeline.core import reach
from pipeline.core.contracts import Reader
from pipeline.core.errors import SinkBusy, SourceLost, let_go
from pipeline.core.letters import Letter
from pipeline.core.payloads import View
from pipeline.core.records import Item
from pipeline.core.snapshot import Latency, Snapshot
from pipeline.engine.dispatch import Dispatch
from pipeline.engine.pipeline import Pipeline
from sinks.memory import Memory as MemorySink
from sinks.webhook import Webhook
from sources.memory import LiveMemory, Memory
from tests.durability.receivers import SECRET
from tests.engine.remote_parts import Receiver, letter, remote, until
from tests.sinks.servers import free_port


@pytest.fixture(autouse=True)
def _nobody_collects() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Held:
    """Something of which it is to be known when it goes."""

    alive: ClassVar[weakref.WeakSet[Held]] = weakref.WeakSet()

    def __init__(self) -> None:
        self.alive.add(self)


def keeping(error: Exception) -> NoReturn:
    """A circle: the frame keeps the error."""
    held, kept = Held(), error
    assert held in Held.alive
    raise kept


def test_an_error_its_causes_and_its_members_are_let_go() -> None:
    def raised() -> None:
        try:
            keeping(ValueError("first"))
        except ValueError as first:
            try:
                keeping(KeyError("second"))
            except KeyError as second:
                raise ExceptionGroup("both", [first, second]) from first

    try:
        raised()
    except ExceptionGroup as error:
        assert len(Held.alive) == 2
        let_go(error)
    assert not Held.alive


def test_what_only_looks_like_a_group_and_what_was_never_raised_stop_nothing() -> None:
    class Odd(Exception):
        exceptions = None

    try:
        keeping(Odd())
    except Odd as odd:
        told = SinkBusy("told")
        told.__cause__ = odd
        odd.__cause__ = told  # a circle of them
        let_go(told)
    assert not Held.alive


class _Leaving(LiveMemory):
    def open(self, *_: Any, **__: Any) -> Reader:
        return _Breaks()


class _Breaks(Held):
    def __iter__(self) -> Iterator[Item]:
        end = SourceLost("the stream ended")
        yield from ()
        raise end

    def close(self) -> None:
        pass


def test_a_reader_that_broke_off_is_gone_before_the_next_one() -> None:
    pipeline = Pipeline([plan("door", _Leaving(script=[]), both())], {"m": MemorySink()})
    pipeline.start()
    assert until(lambda: pipeline.snapshot().streams[0].connects > 2)
    assert len(Held.alive) <= 1
    pipeline.stop()


class _Faints(Brightness):
    def score(self, views: Sequence[View]) -> Any:
        keeping(RuntimeError("out of memory"))


def test_a_model_that_fails_keeps_no_picture() -> None:
    sink = MemorySink()
    film = Memory(script=[grey(9)], repeat=30)
    pipeline = Pipeline([plan("film", film, generation(_Faints("cheap")))], {"m": sink})
    pipeline.start()
    assert pipeline.wait(20)
    pipeline.stop()
    assert len(sink.collector.outcomes) == 30
    assert not Held.alive


def test_a_receiver_that_is_down_keeps_no_letter_in_memory(tmp_path: Path) -> None:
    def away(letters: Sequence[Letter]) -> int:
        keeping(SinkBusy(f"not now, all {len(letters)}"))

    asked: list[int] = []
    receiver = Receiver(lambda letters: asked.append(len(letters)) or away(letters))
    now = Snapshot(0.0, True, (), (), (), Latency(), 0.0, 0)
    one = Dispatch("hook", remote(tmp_path, receiver), lambda: now)
    one.open()
    assert one.outbox is not None
    one.outbox.accept([letter(n) for n in range(5)])
    assert until(lambda: len(asked) > 3)
    one.finish(0.0)
    one.join(5.0)
    assert not Held.alive


def test_a_webhook_that_is_down_keeps_no_letter_in_memory() -> None:
    url = f"http://127.0.0.1:{free_port()}/hook"
    with reach.using(reach.NetworkSettings(private=True)):
        courier = Webhook(url=url, secrets=SECRET).connect("hook")
        for _ in range(3):
            try:
                courier.send([replace(letter(n), stream=f"door {n}") for n in range(9)])
            except SinkBusy as error:
                let_go(error)
        courier.close()
    ours = {f"door {n}" for n in range(9)}
    assert not [one for one in gc.get_objects() if type(one) is Letter and one.stream in ours]
