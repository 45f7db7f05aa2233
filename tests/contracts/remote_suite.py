"""What every sink on the network must do, against a real receiver. A sink's test subclasses `RemoteSuite`."""

from __future__ import annotations

import logging
import pickle
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from pipeline.core.contracts import Courier, Remote
from pipeline.core.errors import InputError, SinkBusy, SinkRefused
from pipeline.core.letters import Letter, letter_of
from pipeline.core.outages import Outage
from pipeline.core.records import Audit, Detection, Failed
from sinks import CATALOGUE
from tests.contracts.names import leads
from tests.contracts.sink_suite import EVERY_KIND, NOON, event, person, result, ruling, window
from tests.sinks.servers import Server, Wire, eventually

AUDIT = Audit(window(4), 1, "people@1", "result", 0.25, False, (person(0.7),))
OUTAGE = Outage("door", "lost", NOON, NOON + 12_345_000_000)
NUL = Failed(window(9), window(9).mono_ns + 1, "the camera said \x00\x00\\u0000 and \ud800\n")
ITEMS: list[Any] = [
    *EVERY_KIND,
    NUL,
    result(10, Detection("a\x00b", 0.5), stream="gate.sound"),
    *(event(), event("update", 30), event("end", 50)),
    *(ruling(), ruling("update", 4), ruling("end", 7)),
    AUDIT,
    OUTAGE,
]
LETTERS = [letter_of(item) for item in ITEMS]
LONGEST_S = 10.0


@dataclass(frozen=True)
class Word:
    """A letter as a reader finds it."""

    id: str
    stream: str
    document: dict[str, Any]


def many(count: int, first: int = 0, streams: Sequence[str] = ("door", "gate", "yard")) -> list[Letter]:
    return [letter_of(result(n, person(), stream=streams[n % len(streams)])) for n in range(first, first + count)]


def deliver(courier: Courier, letters: Iterable[Letter], within_s: float = 40.0) -> list[tuple[str, str]]:
    """What the engine does, in small: all are sent, in order, however often it takes. Those that are refused come
    back, with the reasons."""
    waiting, refused = list(letters), []
    end = time.monotonic() + within_s
    while waiting:
        some = waiting[: courier.most]
        try:
            count = courier.send(some)
        except SinkBusy:
            assert time.monotonic() < end, "busy for ever"
            time.sleep(0.1)
        except SinkRefused as refusal:
            refused.append((waiting.pop(0).id, str(refusal)))
        else:
            assert 1 <= count <= len(some)
            del waiting[:count]
    return refused


class RemoteSuite(ABC):
    """Subclass, give `kind`, `plan` and `words` (or `check` where no repeats are kept), and an autouse fixture that
    sets `server`; pytest runs the rest. `space` is new for every test."""

    kind: str
    server: Server
    secrets: tuple[str, ...] = ()
    """What must not surface."""
    kinds_apart = False
    """Whether each kind of letter has an order of its own."""
    host = "127.0.0.1"
    """Under which `plan` names the server."""
    said_at: str
    """Where in the settings."""

    @pytest.fixture(autouse=True)
    def _space(self) -> None:
        self.space = f"t{uuid4().hex[:12]}"

    @abstractmethod
    def plan(self, port: int | None = None) -> Remote:
        """A sink to the server (or to that port), keeping its things apart by `space`."""

    def words(self) -> list[Word]:
        """What another reader finds there by now, repeats included, in order for each stream."""
        raise NotImplementedError

    @abstractmethod
    def poisoned(self) -> Letter:
        """One that the receiver will never take."""

    def check(self, letters: Sequence[Letter]) -> None:
        """They are all there, in order, once a reader has left repeats aside."""
        sent: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for letter in letters:
            line = self._line(letter.stream, letter.document)
            sent[line].setdefault(self.name_of(letter), letter.document)
        found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for word in self.words():
            line = self._line(word.stream, word.document)
            assert found[line].setdefault(word.id, word.document) == word.document
        assert {line: list(words) for line, words in found.items()} == {s: list(w) for s, w in sent.items()}
        assert found == sent

    def _line(self, stream: str, document: dict[str, Any]) -> str:
        kind = next((kind for kind in ("event", "ruling", "audit", "outage") if kind in document), "outcome")
        return f"{stream} {kind}" if self.kinds_apart else stream

    def name_of(self, letter: Letter) -> str:
        """By what the receiver tells a repeat."""
        return letter.id

    def connect(self, port: int | None = None) -> Courier:
        return self.plan(port).connect("out")

    def test_what_was_sent_is_there_for_another_reader(self) -> None:
        courier = self.connect()
        assert deliver(courier, LETTERS) == []
        self.check(LETTERS)  # before close
        courier.close()
        self.check(LETTERS)

    def test_each_kind_alone(self) -> None:
        courier = self.connect()
        for n, letter in enumerate(LETTERS):
            assert deliver(courier, [letter]) == []
            if n in (0, len(LETTERS) // 2):
                self.check(LETTERS[: n + 1])
        courier.close()
        self.check(LETTERS)

    def test_the_same_letters_again_are_known_again(self) -> None:
        for _ in range(2):
            courier = self.connect()
            deliver(courier, LETTERS)
            deliver(courier, LETTERS)
            courier.close()
        self.check(LETTERS)

    def test_another_generation_has_the_last_word(self) -> None:
        first = [letter_of(result(n, person(), person(0.6, None))) for n in range(5)]
        second = [letter_of(result(n, person(0.4), generation="people@2")) for n in range(5)]
        courier = self.connect()
        deliver(courier, [*first, *second])
        deliver(courier, second)
        courier.close()
        self.check([*first, *second])

    def test_order_is_kept_over_many(self) -> None:
        courier = self.connect()
        deliver(courier, many(400))
        courier.close()
        self.check(many(400))

    def test_a_receiver_that_is_down_is_waited_for(self) -> None:
        self.server.stop()
        courier = self.connect()
        with pytest.raises(SinkBusy):
            courier.send(LETTERS)
        self.server.start() if self.kind != "kafka" else self.server.well()
        deliver(courier, LETTERS)
        courier.close()
        self.check(LETTERS)

    def test_a_receiver_that_is_started_again_between_two_sends(self) -> None:
        courier = self.connect()
        deliver(courier, many(20))
        self.check(many(20))
        self.server.restart()
        deliver(courier, many(20, 20))
        courier.close()
        self.after_restart(many(20), many(20, 20))

    def after_restart(self, before: list[Letter], after: list[Letter]) -> None:
        self.check([*before, *after])

    def test_a_receiver_that_accepts_and_never_answers_is_busy_in_time(self) -> None:
        self.server.freeze()
        fresh = self.connect()
        self.busy_in_time(fresh)
        self.server.thaw()
        deliver(fresh, many(5))
        self.server.freeze()
        self.busy_in_time(fresh, many(300, 5))  # in the middle of it all
        self.server.thaw()
        deliver(fresh, many(300, 5))
        fresh.close()
        self.check(many(305))

    def busy_in_time(self, courier: Courier, letters: Sequence[Letter] = ()) -> None:
        begun = time.monotonic()
        with pytest.raises(SinkBusy):
            courier.send((letters or many(5))[: courier.most])
        assert time.monotonic() - begun < LONGEST_S

    @pytest.mark.parametrize("cut_after", [100, 3000, 30_000])
    def test_a_connection_that_is_reset_in_mid_send(self, cut_after: int) -> None:
        with Wire(self.server.port, cut_after) as wire:
            courier = self.connect(wire.port)
            deliver(courier, many(200))
            courier.close()
            assert wire.cuts == 1
        self.check(many(200))

    def test_one_poisoned_letter_is_refused_and_those_around_it_arrive(self) -> None:
        courier, bad = self.connect(), self.poisoned()
        before, after = many(10), many(10, 10)
        refused = deliver(courier, [*before, bad, *after])
        courier.close()
        assert [name for name, _ in refused] == [bad.id]
        assert refused[0][1]
        self.check([*before, *after])

    def test_it_works_again_after_a_refusal_of_its_only_letter(self) -> None:
        courier, bad = self.connect(), self.poisoned()
        assert [name for name, _ in deliver(courier, [bad, bad])] == [bad.id, bad.id]
        deliver(courier, many(2))
        courier.close()
        self.check(many(2))

    def test_no_secret_surfaces(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        caplog.set_level(logging.DEBUG)
        plan = self.plan()
        told = [repr(plan), str(plan)]
        self.server.stop()
        courier = plan.connect("out")
        with pytest.raises(SinkBusy) as busy:
            courier.send(LETTERS)
        told += [str(busy.value), repr(courier)]
        self.server.well()
        deliver(courier, many(3))
        told += [name + why for name, why in deliver(courier, [self.poisoned()])]
        courier.close()
        told += [caplog.text, *capfd.readouterr()]
        assert self.secrets
        assert [(secret, text) for text in told for secret in self.secrets if secret in text] == []

    def test_the_plan_is_picklable_frozen_and_in_the_catalogue(self) -> None:
        plan = self.plan()
        plan.check()
        assert type(plan) is CATALOGUE.load(self.kind)
        again = pickle.loads(pickle.dumps(plan))
        assert again == plan
        with pytest.raises(ValidationError):
            plan.events = False  # type: ignore[misc]
        courier = again.connect("out")
        deliver(courier, many(2))
        courier.close()
        self.check(many(2))

    def test_an_address_that_nobody_may_reach_is_a_mistake(self) -> None:
        self.host = "169.254.169.254"
        for step in (lambda: self.plan().check(), self.connect):
            with pytest.raises(InputError, match="link-local") as caught:
                step()
            assert caught.value.place == self.said_at

    def test_a_name_that_leads_astray_is_not_followed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = "receiver.test"
        self.plan().check()  # which asks nobody
        leads(monkeypatch, self.host, "169.254.169.254")
        with pytest.raises(SinkBusy, match="link-local"), closing(self.connect()) as courier:
            courier.send(many(1))

    def test_closing_twice_and_without_having_sent(self) -> None:
        courier = self.connect()
        courier.close()
        courier.close()
        courier = self.connect()
        deliver(courier, many(1))
        courier.close()
        courier.close()
        with pytest.raises(SinkBusy):
            courier.send(many(1))
        eventually(lambda: self.check(many(1)) is None)


class PinningSuite(RemoteSuite):
    """Of those that connect to the very address which was checked."""

    def test_where_a_name_leads_is_asked_of_nobody_else(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = "receiver.test"
        leads(monkeypatch, self.host, "127.0.0.1")  # the system's own service knows no such name
        courier = self.connect()
        deliver(courier, many(5))
        courier.close()
        self.check(many(5))
