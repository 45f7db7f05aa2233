"""In order, at least once, for as long as it takes; never on anybody's time but its own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.core.errors import SinkBusy, SinkRefused
from pipeline.core.letters import Letter
from pipeline.core.snapshot import Latency, Snapshot
from pipeline.engine import dispatch as module
from pipeline.engine.delivery import SinkRunner
from pipeline.engine.dispatch import Dispatch
from pipeline.engine.outbox import dead_letters
from tests.contracts.sink_suite import event, result
from tests.engine.remote_parts import Receiver, ToReceiver, letter, remote, until

NOW = Snapshot(0.0, True, (), (), (), Latency(), 0.0, 0)


def started(plan: ToReceiver, count: int = 0) -> Dispatch:
    one = Dispatch("hook", plan, lambda: NOW)
    one.open()
    assert one.outbox is not None
    if count:
        one.outbox.accept([letter(n) for n in range(count)])
    return one


def ended(one: Dispatch, within_s: float = 5.0) -> None:
    end_s = time.monotonic() + within_s
    one.finish(end_s)
    one.join(end_s + 1.0)


def test_all_arrives_in_order_though_the_receiver_takes_what_it_likes(tmp_path: Path) -> None:
    chance = random.Random(3)

    def moody(letters: Sequence[Letter]) -> int:
        if chance.random() < 0.05:
            raise SinkBusy("later")
        return chance.randint(1, len(letters))

    receiver = Receiver(moody)
    one = started(remote(tmp_path, receiver), 200)
    assert until(lambda: one.outbox is not None and not one.outbox.waiting, 30)
    ended(one)
    assert receiver.ids == [letter(n).id for n in range(200)]
    assert one.snapshot() is not None and one.snapshot().delivered == 200  # type: ignore[union-attr]


def test_a_courier_that_takes_nothing_and_says_nothing_loses_nothing(tmp_path: Path) -> None:
    answers = iter([0, 0, -1])
    receiver = Receiver(lambda letters: next(answers, len(letters)))
    one = started(remote(tmp_path, receiver, most=1), 3)
    assert until(lambda: one.outbox is not None and not one.outbox.waiting)
    ended(one)
    assert receiver.ids == [letter(n).id for n in range(3)] and one.retries >= 3


def test_a_refused_one_is_put_aside_and_holds_up_nobody(tmp_path: Path) -> None:
    def picky(letters: Sequence[Letter]) -> int:
        if letters[0] == letter(3):
            raise SinkRefused("413 too large")
        return 1 if letter(3) in letters else len(letters)

    receiver = Receiver(picky)
    one = started(remote(tmp_path, receiver), 10)
    assert until(lambda: len(receiver.ids) == 9)
    ended(one)
    assert receiver.ids == [letter(n).id for n in range(10) if n != 3]
    assert dead_letters(tmp_path) == [(letter(3), "413 too large")] and one.refused == 1


def test_a_courier_that_stumbles_without_a_word_is_tried_and_then_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.1)

    def stumbles(letters: Sequence[Letter]) -> int:
        if letters[0] == letter(1):
            raise ZeroDivisionError("oops")
        return 1

    receiver = Receiver(stumbles)
    one = started(remote(tmp_path, receiver), 3)
    assert until(lambda: len(receiver.ids) == 2, 20)
    ended(one)
    ((dead, reason),) = dead_letters(tmp_path)
    assert dead == letter(1) and "ZeroDivisionError" in reason


def test_what_could_not_be_sent_goes_at_the_next_start(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.down = True
    one = started(remote(tmp_path, receiver), 5)
    assert until(lambda: one.detail == "nobody is there")
    ended(one, 0.2)
    receiver.down = False
    again = started(remote(tmp_path, receiver))
    assert until(lambda: len(receiver.ids) == 5)
    ended(again)


def test_a_run_that_is_over_does_not_wait_long_for_a_receiver_that_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.3)
    receiver = Receiver()
    receiver.down = True
    one = started(remote(tmp_path, receiver), 5)
    assert not one.settled()
    assert until(one.settled, 5.0), "what waits is safe"
    ended(one, 60.0)
    assert not one._thread.is_alive(), "it left long before the time it was given"


def raising(error: Exception) -> Callable[..., NoReturn]:
    def raises(*_: object) -> NoReturn:
        raise error

    return raises


class TestBehindTheEngine:
    def runner(self, plan: ToReceiver) -> SinkRunner:
        one = SinkRunner("hook", plan, lambda: NOW)
        one.open()
        return one

    def test_it_acknowledges_what_is_on_the_disk_and_counts_what_arrived(self, tmp_path: Path) -> None:
        receiver = Receiver()
        receiver.down = True
        one = self.runner(remote(tmp_path, receiver))
        for seq in range(20):
            one.put(result(seq), None, True)
        one.put(event(), None, True)
        assert until(lambda: one.snapshot().written == 21)
        said = one.snapshot()
        assert said.waiting == 0 and said.outbox is not None and said.outbox.waiting == 21
        assert until(lambda: one.snapshot().state == "busy") and one.snapshot().detail == "nobody is there"
        receiver.down = False
        assert until(one.drained)
        assert receiver.ids[0] == "door/01K0EPOCH/0:people@1" and receiver.letters[-1].kind == "event"
        one.finish(time.monotonic() + 5)
        one.join(time.monotonic() + 5)
        assert one.snapshot().state == "closed"

    def test_it_sends_what_is_wanted(self, tmp_path: Path) -> None:
        receiver = Receiver()
        one = self.runner(remote(tmp_path, receiver, outcomes="none"))
        for seq in range(3):
            one.put(result(seq), None, True)
        one.put(event(), None, True)
        one.finish(time.monotonic() + 5)
        one.join(time.monotonic() + 6)
        assert [letter.kind for letter in receiver.letters] == ["event"]

    def test_a_stop_flushes_to_the_disk_and_leaves_the_rest(self, tmp_path: Path) -> None:
        receiver = Receiver()
        receiver.down = True
        one = self.runner(remote(tmp_path, receiver))
        for seq in range(700):
            one.put(result(seq), None, True)
        end = time.monotonic() + 0.8
        one.finish(end)
        one.join(end)
        one.give_up()
        one.join(end + 1)
        said = one.snapshot()
        assert said.outbox is not None and said.outbox.waiting == 700 == said.written and not said.dropped

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_thread_that_died_is_told_though_the_other_lives(self, tmp_path: Path) -> None:
        def dies(letters: Sequence[Letter]) -> int:
            raise SystemExit

        receiver = Receiver()
        one = self.runner(remote(tmp_path, receiver))
        one.put(result(0), None, True)
        assert until(one.drained) and one.alive
        receiver.answer = dies
        one.put(result(1), None, True)
        assert until(lambda: not one.alive) and one._thread.is_alive()
        one.finish(time.monotonic())
        one.join(time.monotonic() + 5)

    def test_it_is_alive_while_its_outbox_cannot_be_opened_yet_and_until_it_is_closed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(module, "Outbox", raising(SinkBusy("the disk is away")))
            one = self.runner(remote(tmp_path, Receiver()))
            assert one.snapshot().state == "busy" and one.alive
        one.put(result(0), None, True)
        assert until(lambda: one.snapshot().written == 1) and one.alive
        one.finish(time.monotonic() + 5)
        one.join(time.monotonic() + 5)
        assert not one.alive
