"""Another sink, with faults on purpose: to see what becomes of results while a broker is down or a disk is full."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, PrivateAttr, SerializeAsAny, model_validator

from pipeline.core.contracts import Courier, Delivery, Observer, Remote, Sink, Writer
from pipeline.core.errors import SinkBusy, SinkRefused
from pipeline.core.faults import Act, Player
from pipeline.core.letters import Letter
from pipeline.core.snapshot import Snapshot

T = TypeVar("T")


class SinkFault(Act):
    """What happens to some writes.

    - `none`: nothing, all is well;
    - `busy`: nothing is taken, it is to come again; `full`: the same, for want of room on the disk;
    - `unacknowledged`: all is taken, and the word of it is lost, so that it comes again;
    - `slow`: each takes `each_s` seconds; `hang`: one is stuck for `for_s` seconds;
    - `refuse`: it is not to come again;
    - `crash`: the sink raises what no sink should.
    """

    fault: Literal["none", "busy", "full", "unacknowledged", "slow", "hang", "refuse", "crash"]

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.fault == "hang" and self.for_s is None:
            raise ValueError("hang needs `for_s`, the seconds that it lasts")
        return self


class _Settings(Sink):
    of: SerializeAsAny[Sink] = Field(description="the sink that is written to")
    script: tuple[SinkFault, ...] = Field(default=(), description="what happens, one after the other; then nothing")
    repeat: bool = Field(default=False, description="play the script again and again")
    seed: int = Field(default=0, description="of the draws of `share`: the same seed hits the same writes")
    _player: Player[SinkFault] = PrivateAttr()

    def model_post_init(self, context: object) -> None:
        self._player = Player(self.script, self.repeat, self.seed)

    @property
    def takes(self) -> frozenset[str]:  # type: ignore[override]  # of others, their class says so
        return self.of.takes

    @property
    def backlog(self) -> int:  # type: ignore[override]  # likewise
        return self.of.backlog

    @property
    def fleeting(self) -> bool:  # type: ignore[override]  # likewise
        return self.of.fleeting

    def check(self) -> None:
        self.of.check()


class Faulty(_Settings):
    """Writes to `of`, and has the faults of `script` happen meanwhile. Around a sink on the network it is one, too:
    `Faulty.around` makes the right one, as a config does."""

    @staticmethod
    def around(sink: Sink, *script: SinkFault | Mapping[str, Any], repeat: bool = False, seed: int = 0) -> Sink:
        """`sink`, with these faults."""
        plan: Sink = Faulty.model_validate({"of": sink, "script": script, "repeat": repeat, "seed": seed})
        return plan

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Any:
        remote = isinstance(obj, dict) and isinstance(obj.get("of"), Remote)
        return FaultyRemote.model_validate(obj, **options) if remote else super().model_validate(obj, **options)

    @model_validator(mode="after")
    def _is_no_remote(self) -> Self:
        if isinstance(self.of, Remote):
            raise ValueError("a sink on the network is wrapped with Faulty.around")
        return self

    def open(self) -> Writer:
        writer = self.of.open()
        return (_Watching if isinstance(writer, Observer) else _Writer)(writer, self._player)


class FaultyRemote(_Settings, Remote):  # type: ignore[override]  # see `takes`
    """The same around a sink on the network: the outbox is in front of the faults. What is sent, and where the outbox
    is, `of` says."""

    @model_validator(mode="before")
    @classmethod
    def _as_it_says(cls, given: Any) -> Any:
        of = given.get("of") if isinstance(given, dict) else None
        if not isinstance(of, Remote):
            return given
        said = of.model_fields_set & Remote.model_fields.keys()
        return {name: getattr(of, name) for name in said} | given

    def connect(self, name: str) -> Courier:
        assert isinstance(self.of, Remote)
        courier = self.of.connect(name)
        return (_WatchingCourier if isinstance(courier, Observer) else _Courier)(courier, self._player)

    def wants(self, item: Delivery) -> bool:
        assert isinstance(self.of, Remote)
        return self.of.wants(item)

    def open(self) -> Writer:
        return Remote.open(self)


def _act(player: Player[SinkFault], write: Callable[[], T]) -> T:
    """Write, as the script says."""
    act = player.next()
    fault = "none" if act is None else act.fault
    if act is not None and fault == "slow":
        time.sleep(act.each_s)
    elif act is not None and fault == "hang":
        time.sleep(act.for_s or 0.0)
        player.skip()
    elif fault == "busy":
        raise SinkBusy("busy, as the script says")
    elif fault == "full":
        raise SinkBusy(os.strerror(errno.ENOSPC))
    elif fault == "refuse":
        raise SinkRefused("refused, as the script says")
    elif fault == "crash":
        raise RuntimeError("crashed, as the script says")
    written = write()
    if fault == "unacknowledged":
        raise SinkBusy("no answer came, as the script says")
    return written


class _Writer:
    def __init__(self, writer: Writer, player: Player[SinkFault]) -> None:
        self._writer = writer
        self._player = player

    def write(self, items: Sequence[Delivery]) -> None:
        _act(self._player, lambda: self._writer.write(items))

    def close(self) -> None:
        self._writer.close()


class _Watching(_Writer):
    def observe(self, snapshot: Snapshot) -> None:
        assert isinstance(self._writer, Observer)
        self._writer.observe(snapshot)


class _Courier:
    def __init__(self, courier: Courier, player: Player[SinkFault]) -> None:
        self.most = courier.most
        self._courier = courier
        self._player = player

    def send(self, letters: Sequence[Letter]) -> int:
        return _act(self._player, lambda: self._courier.send(letters))

    def close(self) -> None:
        self._courier.close()


class _WatchingCourier(_Courier):
    def observe(self, snapshot: Snapshot) -> None:
        assert isinstance(self._courier, Observer)
        self._courier.observe(snapshot)
