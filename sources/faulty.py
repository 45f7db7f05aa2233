"""Another source, with faults on purpose: to see what a pipeline makes of a camera that misbehaves."""

from __future__ import annotations

import copy
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr, SerializeAsAny, model_validator

from pipeline.core.contracts import Reader, Source
from pipeline.core.errors import InputError, SourceLost
from pipeline.core.faults import Act, Player
from pipeline.core.media import Medium, Payload, Spec
from pipeline.core.payloads import FrameImage, Image
from pipeline.core.records import Array, Chunk, Gap, Item, Watermark
from pipeline.core.settings import LONGEST_S, StreamSettings
from sources.ffmpeg import new_epoch
from sources.pace import Pace

_LASTING = frozenset({"silent", "hang"})
_PICTURES = frozenset({"frozen", "black"})


class SourceFault(Act):
    """What happens to some frames, windows of sound or messages.

    - `none`: nothing, all is well;
    - `silent`: nothing comes, for `for_s` seconds. What arrives in real time is lost meanwhile, other things wait;
    - `hang`: the reader is stuck, for `for_s` seconds;
    - `slow`: each takes `each_s` seconds;
    - `frozen`: the same picture again and again; `black`: black pictures;
    - `damaged`: frames that are not whole;
    - `duplicate`: each comes twice;
    - `leap`: the sender's clock leaps by `by_s` seconds, either way;
    - `lost`: the connection breaks; `raise`: the reader raises what no reader should; `refused`: what came is of no
      use, now and later.
    """

    fault: Literal[
        "none", "silent", "hang", "slow", "frozen", "black", "damaged", "duplicate", "leap", "lost", "raise", "refused"
    ]
    by_s: float = Field(default=0.0, ge=-LONGEST_S, le=LONGEST_S, description="leap: how far, in seconds")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.fault in _LASTING and self.for_s is None:
            raise ValueError(f"{self.fault} needs `for_s`, the seconds that it lasts")
        return self


class Faulty(Source):
    """Reads `of`, and has the faults of `script` happen to what it reads. What `of` says of the stream (its cascade,
    its gate, how many frames a second) holds."""

    of: SerializeAsAny[Source] = Field(description="the source that is read")
    script: tuple[SourceFault, ...] = Field(default=(), description="what happens, one after the other; then nothing")
    repeat: bool = Field(default=False, description="play the script again and again")
    seed: int = Field(default=0, description="of the draws of `share`: the same seed hits the same frames")
    as_live: bool = Field(
        default=False, description="take a film for a camera: its end and its breaks are disconnects, frames drop"
    )
    _player: Player[SourceFault] = PrivateAttr()

    @model_validator(mode="before")
    @classmethod
    def _said_of_the_stream(cls, given: Any) -> Any:
        of = given.get("of") if isinstance(given, dict) else None
        if not isinstance(of, Source):
            return given
        said = of.model_fields_set & StreamSettings.model_fields.keys()
        return {name: getattr(of, name) for name in said} | given

    def model_post_init(self, context: object) -> None:
        self._player = Player(self.script, self.repeat, self.seed)

    @property
    def live(self) -> bool:  # type: ignore[override]  # of others, their class says so
        return self.as_live or self.of.live

    @property
    def medium(self) -> Medium:  # type: ignore[override]
        return self.of.medium

    @property
    def paced(self) -> bool:
        return self.as_live or self.of.paced

    @property
    def parts(self) -> bool:
        return self.of.parts

    @property
    def tracks(self) -> Mapping[str, StreamSettings]:
        return self.of.tracks

    def fitted(self, spec: Spec, track: str = "") -> Self:
        return self.model_copy(update={"of": self.of.fitted(spec, track)})

    def check(self) -> None:
        self.of.check()
        for number, act in enumerate(self.script):
            if act.fault in _PICTURES and self.medium != "picture":
                raise InputError(f"{act.fault} is for pictures, and this is {self.medium}", f"script.{number}.fault")

    def open(self, stream: str) -> Reader:
        reader = self.of.open(stream)
        tracks = getattr(reader, "tracks", None)
        kind = _Reader if tracks is None else _TrackedReader
        return kind(self, stream, reader, self._player)


class _Reader:
    def __init__(self, plan: Faulty, stream: str, reader: Reader, player: Player[SourceFault]) -> None:
        self.epoch = new_epoch() if plan.as_live and not plan.of.live else reader.epoch
        self._plan = plan
        self._stream = stream
        self._reader = reader
        self._player = player
        self._shift_ns = 0
        self._twice = 0
        self._last_ns = 0
        self._silent_since_s: float | None = None
        self._still: Array | None = None

    def __iter__(self) -> Iterator[Item]:
        for item in self._reader:
            if isinstance(item, Gap):
                yield item
            elif isinstance(item, Watermark):
                yield replace(item, pts_ns=item.pts_ns + self._shift_ns)
            elif item.stream != self._stream:
                if self._silent_since_s is None:
                    yield self._later(item)
            else:
                yield from self._chunk(item)

    def _chunk(self, chunk: Chunk) -> Iterator[Item]:
        act = self._player.next()
        fault = "none" if act is None else act.fault
        if fault != "frozen":
            self._still = None
        if act is None or fault == "none":
            pass
        elif fault == "silent":
            yield from self._silent(act)
            if self._plan.paced:
                chunk.payload.release()
                return
        elif fault == "hang":
            time.sleep(act.for_s or 0.0)
            self._player.skip()
        elif fault == "slow":
            time.sleep(act.each_s)
        elif fault == "leap":
            self._shift_ns += int(act.by_s * 1e9)
        elif fault == "damaged":
            chunk.payload.release()
            yield Gap(self._stream, "damaged", 1)
            return
        elif fault in {"lost", "raise", "refused"}:
            chunk.payload.release()
            _break_off(fault)
        self._silent_since_s = None
        yield from self._copies(self._later(chunk), fault)

    def _copies(self, chunk: Chunk, fault: str) -> Iterator[Item]:
        if fault in _PICTURES and isinstance(chunk.payload, Image):
            chunk = replace(chunk, payload=self._instead(chunk.payload, fault))
        again = _copied(chunk.payload) if fault == "duplicate" else None
        self._last_ns = chunk.pts_ns
        yield chunk
        if again is not None:
            self._twice += 1
            yield replace(chunk, seq=chunk.seq + 1, payload=again, answer=None)

    def _later(self, chunk: Chunk) -> Chunk:
        """By the sender's clock as it is by now, under this connection's name."""
        if self._shift_ns:
            chunk.payload.move(self._shift_ns)
        seq = chunk.seq + (self._twice if chunk.stream == self._stream else 0)
        return replace(chunk, epoch=self.epoch, seq=seq, pts_ns=chunk.pts_ns + self._shift_ns)

    def _silent(self, act: SourceFault) -> Iterator[Item]:
        """A reader that knows its duty says so, and gives up in time."""
        if not self._plan.paced:
            for _ in Pace().span(act.for_s or 0.0):
                yield Watermark(self._stream, self._last_ns)
            self._player.skip()
            return
        now_s = time.monotonic()
        self._silent_since_s = self._silent_since_s or now_s
        if self._plan.live and now_s - self._silent_since_s > self._plan.silence_s:
            raise SourceLost("nothing has come, as the script says")
        yield Watermark(self._stream, self._last_ns)

    def _instead(self, image: Image, fault: str) -> Image:
        if fault == "black":
            self._still = np.zeros((image.height, image.width, 3), np.uint8)
        elif self._still is None:
            self._still = image.rgb()
        image.release()
        assert self._still is not None
        return FrameImage.from_array(self._still)

    def close(self) -> None:
        self._reader.close()


class _TrackedReader(_Reader):
    """Of a reader that says which tracks it found."""

    @property
    def tracks(self) -> Collection[str]:
        found: Collection[str] = getattr(self._reader, "tracks", ())
        return found


def _copied(payload: Payload) -> Payload:
    return FrameImage.from_array(payload.rgb()) if isinstance(payload, Image) else copy.copy(payload)


def _break_off(how: str) -> None:
    if how == "lost":
        raise SourceLost("broken off, as the script says")
    if how == "refused":
        raise InputError("refused, as the script says")
    raise RuntimeError("raised, as the script says")
