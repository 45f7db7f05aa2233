"""A pipeline that runs with the real server beside it, for whoever publishes into it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import httpx
from pydantic import PrivateAttr

from pipeline.app.assemble import assemble
from pipeline.app.runner import served
from pipeline.app.wiring import prepare
from pipeline.core.contracts import Delivery, Picture, Sink
from pipeline.core.records import Result
from pipeline.core.snapshot import StreamSnapshot
from pipeline.engine.pipeline import Pipeline


class Judged(NamedTuple):
    """A result, and how its picture looks: its size, and the colour at its left edge."""

    result: Result
    size: tuple[int, int] = (0, 0)
    colour: tuple[int, ...] = ()


class Looking(Sink):
    """What is judged, as it is seen where it leaves."""

    takes: ClassVar[frozenset[str]] = frozenset({"outcomes", "pictures"})
    _judged: list[Judged] = PrivateAttr(default_factory=list)

    @property
    def judged(self) -> list[Judged]:
        return list(self._judged)

    def open(self) -> Looking:  # type: ignore[override]  # its own writer
        return self

    def write(self, items: Sequence[Delivery]) -> None:
        for item in items:
            assert isinstance(item, Picture)
            if not isinstance(item.outcome, Result):
                continue
            seen = item.image
            if seen is None:
                self._judged.append(Judged(item.outcome))
                continue
            pixel = seen.rgb()[seen.height // 2, 4]
            self._judged.append(Judged(item.outcome, (seen.width, seen.height), tuple(int(n) for n in pixel)))

    def close(self) -> None:
        pass


@dataclass
class Served:
    url: str
    running: Pipeline
    looking: Looking
    http: httpx.Client

    def whip(self, name: str = "lobby") -> str:
        return f"{self.url}/whip/{name}"

    def stream(self, name: str = "lobby") -> StreamSnapshot:
        return next(one for one in self.running.snapshot().streams if one.stream == name)

    def judged(self, name: str = "lobby") -> list[Judged]:
        return [one for one in self.looking.judged if one.result.window.stream == name]


@contextmanager
def serving(folder: Path, config: str) -> Iterator[Served]:
    """`config` as a file of `folder` would say it, without sinks."""
    path = folder / "web.yaml"
    path.write_text(config + "\nsinks: {log: {kind: jsonl, path: /dev/null}}\n")
    document = assemble([str(path)], assignments=["web.listen=127.0.0.1:0"])
    plan, generations = prepare(document)
    looking = Looking()
    plan = replace(plan, sinks={**plan.sinks, "looking": looking})
    with served(plan, generations, document, drain_s=2) as (server, running), httpx.Client(timeout=15) as http:
        assert server is not None
        running.start()
        yield Served(server.url, running, looking, http)


def soon(what: Callable[[], Any], seconds: float = 20) -> Any:
    """What `what` gives once that is something."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)
    return found


def hollow_offer() -> str:
    """An offer of picture and sound that would be accepted, without a connection behind it."""
    lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0 1"]
    media = (("video", 96, "VP8/90000"), ("audio", 111, "opus/48000/2"))
    for mid, (kind, number, codec) in enumerate(media):
        lines += [
            f"m={kind} 9 UDP/TLS/RTP/SAVPF {number}",
            "c=IN IP4 0.0.0.0",
            "a=ice-ufrag:abcd",
            "a=ice-pwd:abcdefghijklmnopqrstuv",
            f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}",
            "a=setup:actpass",
            f"a=mid:{mid}",
            "a=sendonly",
            "a=rtcp-mux",
            f"a=rtpmap:{number} {codec}",
        ]
    return "".join(f"{line}\n" for line in lines)
