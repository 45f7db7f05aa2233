"""The pipeline from Python: `for result in watch("clip.mp4")`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar, cast, overload

from pipeline.app.assemble import assemble
from pipeline.app.config.document import Document
from pipeline.app.config.targets import add_targets
from pipeline.app.control import Control
from pipeline.app.mailbox import Boxes, Mail, Mailbox, PictureMail
from pipeline.core.contracts import Delivery, Picture
from pipeline.core.errors import FrameGone, InputErrors
from pipeline.core.records import Array, Event, Outcome, Result
from pipeline.core.snapshot import Snapshot
from pipeline.engine.pipeline import Pipeline

T = TypeVar("T")
Target: TypeAlias = "str | int | Path | Mapping[str, Any]"
Seen: TypeAlias = "tuple[Result, Array | None]"
_SINK = "python"
_DRAIN_S = 5.0


@overload
def watch(
    *targets: Target,
    detect: str | None = ...,
    overrides: Mapping[str, Any] | None = ...,
    pictures: Literal[False] = ...,
) -> Watch[Result]: ...


@overload
def watch(
    *targets: Target, detect: str | None = ..., overrides: Mapping[str, Any] | None = ..., pictures: Literal[True]
) -> Watch[Seen]: ...


def watch(
    *targets: Target, detect: str | None = None, overrides: Mapping[str, Any] | None = None, pictures: bool = False
) -> Watch[Any]:
    """Watch streams, as `thresher run` does, and read the results in a loop:

        for result in watch("clip.mp4", detect="people"):
            print(result.window.start_ns / 1e9, result.detections)

    A target is a URL, the number of a camera, a file, a folder of pictures, a config (*.yaml) or one as a mapping.
    `overrides` are those of `--set`: `{"sources.door.max_fps": 5}`. Without a config nothing is written anywhere. With
    `pictures`, each result comes with its picture: RGB, uint8, `[height, width, 3]`, None where there is none (sound,
    text) or it was gone already.

    Nothing runs before it is read or entered. `async for` works alike, and so does an event loop that runs already, as
    in a notebook. Where the loop is left, everything ends; inside of `with`, at its end. If it is read slowly, files
    and folders wait; of live streams the oldest results go, counted in `dropped`.

    Raises `InputError` or `InputErrors` where something can never work: here, where it is first read, or at the end.
    """
    named = [str(target) for target in targets if not isinstance(target, Mapping)]
    given = [dict(target) for target in targets if isinstance(target, Mapping)]
    config = None
    if given:
        whole = {key: value for one in given for key, value in one.items()}
        config = Document(json.loads(json.dumps(whole, default=str)), Path.cwd())
    assignments = [f"{key}={json.dumps(value)}" for key, value in (overrides or {}).items()]
    document = assemble(named, detect=detect, assignments=assignments, config=config, sinks={})
    return Watch(document, pictures=pictures)


class Watch(Generic[T]):
    """Streams that are watched. Made by `watch`; one thread at a time may enter and leave it."""

    def __init__(self, document: Document, *, pictures: bool) -> None:
        self._document, self._pictures = document, pictures
        self._boxes = Boxes()
        self._readers = 0
        self._entered = False
        self._running: Pipeline | None = None
        self._control: Control | None = None
        self._closing = contextlib.ExitStack()
        self._closed = False
        self._lock = threading.RLock()
        self.labels: tuple[str, ...] = ()
        """What the models know, once it runs: for `result.to_supervision(watch.labels)`."""

    # What there is to read.

    def __iter__(self) -> Iterator[T]:
        return iter(self._results())

    def __aiter__(self) -> AsyncIterator[T]:
        return aiter(self._results())

    def _results(self) -> Reading[T]:
        return Reading(self, cast("Callable[[Delivery], T | None]", _seen if self._pictures else _result), self._room)

    def outcomes(self) -> Reading[Outcome]:
        """The pipeline's word on each window: also those that were shed or failed, and why."""
        return Reading(self, _outcome, self._room)

    def events(self) -> Reading[Event]:
        """What people act on: `new`, `update` and `end` of what is seen over a while."""
        return Reading(self, lambda item: item if isinstance(item, Event) else None)

    @property
    def _room(self) -> int:
        return 4 if self._pictures else 64

    # How it is doing.

    def snapshot(self) -> Snapshot:
        """All that the engine says of itself. Starts it."""
        return self._start().snapshot()

    @property
    def dropped(self) -> int:
        """How many results were not read in time."""
        if self._running is None:
            return 0
        return next(sink.dropped for sink in self._running.snapshot().sinks if sink.sink == _SINK)

    # What it watches.

    def add(self, target: Target, name: str = "") -> str:
        """One stream more, while the rest goes on: a target like those of `watch`, or the settings of a source under
        the key `kind`. Returns its name, which `name` says or the target. Raises `InputError`; nothing is changed then.
        Starts it."""
        self._start()
        assert self._control is not None
        section: Mapping[str, Any]
        if isinstance(target, Mapping):
            given, section = name or "stream", target
        else:
            taken = Document({"sources": dict.fromkeys(self._control.streams())}, Path.cwd())
            (given,) = add_targets(taken, [str(target)])
            section = taken.data["sources"][given]
        self._control.add(name or given, section)
        return name or given

    def remove(self, name: str) -> None:
        """Take the stream of that name away, once what is inside has left. Raises `InputError`."""
        self._start()
        assert self._control is not None
        self._control.remove(name)

    # Its life.

    def __enter__(self) -> Self:
        self._entered = True
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await _aside(self.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """Stop everything; what has begun is finished within a few seconds. Safe twice."""
        with self._lock:
            self._closed = True
            for box in self._boxes:
                box.leave()
            self._closing.close()

    async def aclose(self) -> None:
        await _aside(self.close)

    def _start(self) -> Pipeline:
        with self._lock:
            if self._closed:
                raise RuntimeError("it was closed: call watch() again")
            if self._running is not None:
                return self._running
            from pipeline.app.runner import served
            from pipeline.app.wiring import prepare

            plan, generations = prepare(self._document)
            mail = (PictureMail if self._pictures else Mail).into(self._boxes)
            plan = replace(plan, sinks={**plan.sinks, _SINK: mail})
            with contextlib.ExitStack() as opening:
                server, running = opening.enter_context(served(plan, generations, self._document, _DRAIN_S))
                running.start()
                own = Control(self._document, plan, generations, running)
                self._control = own if server is None else server.site.control
                keeper = threading.Thread(target=_end, args=(running,), name="watch-end", daemon=True)
                opening.callback(keeper.join)
                opening.callback(running.stop, drain_s=_DRAIN_S)
                self._closing = opening.pop_all()
            keeper.start()
            stages = [stage for one in generations.values() for stage in reversed(one.stages)]
            self.labels = tuple(dict.fromkeys(label for stage in stages for label in stage.labels))
            self._running = running
            return running

    def _open(self, box: Mailbox[Any]) -> None:
        with self._lock:
            self._readers += 1
            self._boxes.add(box)
            self._start()

    def _leave(self, box: Mailbox[Any]) -> None:
        box.leave()
        with self._lock:
            self._readers -= 1
            self._boxes.remove(box)
            if not self._readers and not self._entered:
                self.close()

    def _tell_problems(self) -> None:
        problems = () if self._running is None else self._running.problems
        if problems and not self._closed:
            raise problems[0] if len(problems) == 1 else InputErrors(list(problems))


class Reading(Generic[T]):
    """What comes of one kind, from when it is first asked for; by a loop or by `async for`."""

    def __init__(self, watched: Watch[Any], pick: Callable[[Delivery], T | None], room: int = 64) -> None:
        self._watched, self._pick, self._room = watched, pick, room

    def __iter__(self) -> Iterator[T]:
        box = Mailbox(self._pick, self._room)
        try:
            self._watched._open(box)
            while items := box.take():
                yield from items
            self._watched._tell_problems()
        finally:
            self._watched._leave(box)

    async def __aiter__(self) -> AsyncIterator[T]:
        box = Mailbox(self._pick, self._room)
        try:
            await _aside(lambda: self._watched._open(box))
            while items := await box.arrived():
                for item in items:
                    yield item
            self._watched._tell_problems()
        finally:
            await _aside(lambda: self._watched._leave(box))


def _outcome(item: Delivery) -> Outcome | None:
    if isinstance(item, Picture):
        return None if item.audit is not None else item.outcome
    return item if isinstance(item, Outcome) else None


def _result(item: Delivery) -> Result | None:
    return item if isinstance(item, Result) else None


def _seen(item: Delivery) -> Seen | None:
    if not isinstance(item, Picture) or item.audit is not None or not isinstance(item.outcome, Result):
        return None
    try:
        return item.outcome, None if item.image is None else item.image.rgb()
    except FrameGone:
        return item.outcome, None


def _end(running: Pipeline) -> None:
    """Once all is done, whoever reads is told so."""
    running.wait()
    running.stop(drain_s=_DRAIN_S)


async def _aside(work: Callable[[], Any]) -> None:
    """`work` in a thread of its own, which is gone when this returns. Called off, it is waited for all the same: what
    has been started half would be left behind."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: BaseException | None) -> None:
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        problem: BaseException | None = None
        try:
            work()
        except BaseException as error:  # noqa: BLE001 it is raised where it is waited for
            problem = error
        loop.call_soon_threadsafe(tell, problem)

    thread = threading.Thread(target=run, name="watch-aside", daemon=True)
    thread.start()
    called_off: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError as error:
            called_off = error
        except Exception:  # noqa: BLE001 told below
            break
    thread.join()
    if called_off is not None:
        done.exception()  # looked at, so that nobody complains
        raise called_off
    done.result()
