"""Reading a source in a process of its own: when FFmpeg crashes or hangs, one stream is lost for a moment, not the
program.

The child opens and reads the source. Pictures stay there; the header and luma sample of each chunk come over at once,
views on demand (`isolated_child` has the protocol). Arrival times are the child's: the monotonic clock is one for the
whole machine on Linux, macOS and Windows.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar, Self, cast

from pydantic import SerializeAsAny

from pipeline.core import reach
from pipeline.core.contracts import Source
from pipeline.core.errors import FrameGone, InputError, SourceLost, ThresherError
from pipeline.core.payloads import Image, View, ViewSpec
from pipeline.core.places import Place
from pipeline.core.records import Array, Box, Chunk, Item, Watermark
from pipeline.core.secrets import redact
from pipeline.core.settings import StreamSettings
from pipeline.engine import isolated_child, isolated_wire

log = logging.getLogger(__name__)

_TICK_S = 0.5
_OPEN_S = 60.0  # sources have time-outs of their own; this one is for a child that hangs
_HANG_S = 60.0  # the same for replayable sources, which may take their time
_ANSWER_S = 5.0
_LINGER_S = 10.0
_LINGER_TICK_S = 0.05
_MOST_LEASED = 32  # what the engine holds of a stream unless it is told otherwise
_SPARE = 16


class Isolated(Source):
    """`inner`, read in a process of its own. `around` makes the right one."""

    inner: SerializeAsAny[Source]
    kept: int = 0  # pictures of windows that have left already

    @staticmethod
    def around(source: Source, kept: int = 0) -> Isolated:
        """The same source to the engine: equally live, paced, and with the same settings for its stream. It holds
        `kept` pictures more than a stream has on its way."""
        settings = {name: getattr(source, name) for name in StreamSettings.model_fields}
        return (_LiveIsolated if source.live else Isolated)(inner=source, kept=kept, **settings)

    @property
    def paced(self) -> bool:
        return self.inner.paced

    @property
    def parts(self) -> bool:
        return self.inner.parts

    def check(self) -> None:
        self.inner.check()

    def resumed(self, places: Mapping[str, Place]) -> Self | None:
        inner = self.inner.resumed(places)
        return None if inner is None else self.model_copy(update={"inner": inner})

    @property
    def endless(self) -> bool:
        return self.inner.endless

    def open(self, stream: str) -> IsolatedReader:
        return IsolatedReader(self.inner, stream, self.kept)


class _LiveIsolated(Isolated):
    live: ClassVar[bool] = True


class IsolatedReader:
    """The running part. A crash of the child is a `SourceLost`; what the child raises is raised here as itself."""

    def __init__(self, source: Source, stream: str, kept: int = 0) -> None:
        self._stream = stream
        self._hang_s = source.silence_s if source.live else _HANG_S
        self._link = _Link(source, stream, kept)
        try:
            message = self._link.message(_OPEN_S)
        except BaseException:
            self._link.kill("it could not be opened")
            raise
        if message is None:
            self._link.kill("its process hangs")
            raise SourceLost(self._link.broken)
        self.epoch: str = message[1]

    def __iter__(self) -> Iterator[Item]:
        link, stream = self._link, self._stream
        quiet_s, last_pts_ns = 0.0, 0
        while not link.closed:
            message = link.message(_TICK_S)
            if message is None:
                quiet_s += _TICK_S  # no clock: a program that was stopped would blame its child for it
                if quiet_s > self._hang_s:
                    link.kill("its process hangs")
                    break
                yield Watermark(stream, last_pts_ns)
                continue
            kind, body = message
            if kind == "chunk":
                seq, pts_ns, duration_ns, mono_ns, wall_ns, width, height, luma, file = body
                last_pts_ns = pts_ns
                image = RemoteImage(link, seq, width, height, luma)
                yield Chunk(stream, self.epoch, seq, pts_ns, duration_ns, mono_ns, wall_ns, image, file)
                del image  # or it would be held until the next one comes
                link.acknowledge()
            elif kind == "item":
                yield body
            else:
                return
            quiet_s = 0.0
        if link.broken:
            raise SourceLost(link.broken)

    def close(self) -> None:
        """Pictures that are still leased can be looked at for some seconds more."""
        self._link.close()


class RemoteImage(Image):
    """A picture in the child. Every view of it is a question to that process."""

    __slots__ = ("_held", "_link", "_luma", "_seq", "height", "width")

    def __init__(self, link: _Link, seq: int, width: int, height: int, luma: Array) -> None:
        self._link, self._seq, self._luma = link, seq, luma
        self.width, self.height = width, height
        self._held = True
        luma.flags.writeable = False
        link.leased.add(seq)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a leased picture does not cross processes: make a View of it first")

    def _ask(self, what: str, *details: object) -> Any:
        if not self._held:
            raise FrameGone("the picture was released before this view of it was asked for")
        return self._link.ask(what, self._seq, *details)

    def view(self, spec: ViewSpec, region: Box | None = None) -> View:
        view = cast(View, self._ask("view", spec, region))
        view.pixels.flags.writeable = False
        return view

    def luma(self) -> Array:
        return self._luma

    def fingerprint(self) -> int:
        return cast(int, self._ask("fingerprint"))

    def rgb(self, max_width: int | None = None) -> Array:
        return cast(Array, self._ask("rgb", max_width))

    def release(self) -> None:
        if self._held:
            self._held = False
            self._link.give_back(self._seq)

    def __del__(self) -> None:
        if getattr(self, "_held", False):  # a constructor that failed leaves nothing to release
            self.release()


class _Link:
    """The child and the three pipes to it.

    Pictures are given back without a lock, since the garbage collector may do it at any moment. Pipes close when the
    last who looks at them is gone: another thread may be waiting at one.
    """

    def __init__(self, source: Source, stream: str, kept: int) -> None:
        most_leased = (source.in_flight or _MOST_LEASED) + _SPARE + kept
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        self._items, items = context.Pipe(duplex=False)
        requests, self._requests = context.Pipe(duplex=False)
        self._replies, replies = context.Pipe(duplex=False)
        self._process = context.Process(
            target=isolated_child.serve,
            args=(source, stream, (items, requests, replies), most_leased, log.getEffectiveLevel(), reach.policy()),
            name=f"source-{stream}",
            daemon=True,
        )
        self._process.start()
        for end in (items, requests, replies):  # the child's ends: once it is gone, reading must find the end
            end.close()
        self.closed = False
        self.broken = ""
        self.leased: set[int] = set()
        self._returned: deque[int] = deque()
        self._ask_lock = threading.Lock()
        self._tell_lock = threading.Lock()

    # What comes.

    def message(self, timeout_s: float) -> tuple[str, Any] | None:
        """The next message, or None. Raises what the child raised, or `SourceLost` where it is gone."""
        try:
            while self._items.poll(timeout_s):
                kind, body = isolated_wire.message(self._items)
                if kind == "log":
                    name, level, text = body
                    logging.getLogger(name).log(level, "%s", redact(text))
                elif kind == "error":
                    raise _cleaned(body)
                else:
                    return kind, body
        except (EOFError, OSError):
            raise SourceLost(self.broken or self._obituary()) from None
        return None

    def _obituary(self) -> str:
        self._process.join(_TICK_S)
        code = self._process.exitcode
        if code is None:
            return "its process broke off"
        return (
            f"its process was ended by {signal.Signals(-code).name}" if code < 0 else f"its process ended with {code}"
        )

    # What goes.

    def give_back(self, seq: int) -> None:
        self.leased.discard(seq)
        self._returned.append(seq)

    def acknowledge(self) -> None:
        """One more chunk was taken, and these pictures are no longer needed."""
        self._tell("ack", tuple(self._returned.popleft() for _ in range(len(self._returned))))

    def ask(self, what: str, seq: int, *details: object) -> Any:
        """Raises `FrameGone` when the picture, or the process that holds it, is no more."""
        with self._ask_lock:
            self._tell(what, seq, *details)
            try:
                if not self._replies.poll(_ANSWER_S):
                    self.kill("its process hangs")  # and with it the answer to come, to somebody else's question
                    raise FrameGone("the process that holds the picture hangs")
                good, value = isolated_wire.reply(self._replies)
            except (EOFError, OSError, SourceLost):
                raise FrameGone("the process that held the picture is gone") from None
        if not good:
            raise value
        return value

    def _tell(self, *request: object) -> None:
        with suppress(OSError), self._tell_lock:  # if it is gone, whoever waits for an answer finds out
            self._requests.send(request)

    # The end.

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if not self.leased:
            self._end()
        else:
            self._tell("stop")
            threading.Thread(target=self._end_when_all_are_back, name=f"{self._process.name}-end", daemon=True).start()

    def _end_when_all_are_back(self) -> None:
        deadline = time.monotonic() + _LINGER_S
        while self.leased and time.monotonic() < deadline and self._process.is_alive():
            time.sleep(_LINGER_TICK_S)
        self._end()

    def _end(self) -> None:
        """The child goes when its pipe closes; if it hangs, it is killed."""
        if self._tell_lock.acquire(timeout=_TICK_S):
            self._requests.close()
            self._tell_lock.release()
            self._process.join(isolated_child.FAREWELL_S + _TICK_S)
        self._process.kill()
        self._process.join()

    def kill(self, why: str) -> None:
        self.broken = self.broken or why
        self.closed = True
        self._process.kill()
        self._process.join()


def _cleaned(error: ThresherError) -> ThresherError:
    """Without the secrets that only this process knows of."""
    if isinstance(error, InputError):
        return InputError(redact(error.message), redact(error.place))
    return SourceLost(redact(error))
