"""The feed under load: twenty clients in a process of their own, one of which never reads."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

import numpy as np
import psutil

from pipeline.app.bench.processes import spawned
from pipeline.app.bench.report import Report, Row, Scale
from pipeline.app.config.document import Document
from pipeline.app.config.plan import Plan
from pipeline.app.config.settings import WebSettings
from pipeline.app.web.server import WebServer
from pipeline.app.web.site import FEED, Site
from pipeline.core.errors import StageError
from pipeline.core.records import Detection, Result, Window
from pipeline.core.snapshot import Latency, Snapshot
from pipeline.engine.delivery import SinkRunner
from pipeline.engine.pipeline import Pipeline

Form: TypeAlias = Literal["sse", "ws"]

_CLIENTS = 20
_STREAMS = 8
_OFFERED = 1_000
_WARM_S = 15.0  # until the feed's memory is full, and all it holds was written out once
_TOLD = re.compile(rb'"pts_ns":(\d+)')
_SHORT_S = 0.002


def bench(scale: Scale) -> Report:
    """What a result's `pts_ns` holds here is when it was done, so that whoever gets it knows how long it took."""
    seconds = scale.of(45, 2)
    steady = _run("sse", seconds, _OFFERED)
    sockets = _run("ws", scale.of(20, 2), _OFFERED)
    flat_out = _run("sse", scale.of(15, 2), None)
    rows = [
        *_at_the_offered_rate("server-sent events", steady),
        *_at_the_offered_rate("WebSockets, in batches", sockets),
        Row(
            "web-feed: the slowest reader, results flat out",
            flat_out.slowest_per_s,
            "results/s",
            at_least=_OFFERED,
            note=f"told {flat_out.told_per_s:.0f}/s; a reader that falls behind is told of the gap and goes on",
        ),
    ]
    if steady.cut_off_s is not None:
        rows.append(Row("web-feed: who never reads was cut off after", steady.cut_off_s, "s", at_most=60))
        rows.append(Row("web-feed: memory, growth from then on", steady.growth_mb_per_min, "MB/min", at_most=5))
    conditions = {"clients": _CLIENTS, "never_reads": 1, "result": f"{steady.bytes_each:.0f} bytes"}
    return Report(rows, conditions)


def _at_the_offered_rate(form: str, run: _Run) -> Iterator[Row]:
    rate = run.slowest_per_s
    offered = run.told_per_s
    yield Row(f"web-feed: the slowest reader, {form}", rate, "results/s", offered, rate / offered, at_least=0.99)
    yield Row(f"web-feed: result done → received, p99, {form}", run.p99_ms, "ms")


@dataclass
class _Run:
    """What one run showed."""

    told_per_s: float = 0.0
    slowest_per_s: float = 0.0
    p99_ms: float = 0.0
    bytes_each: float = 0.0
    cut_off_s: float | None = None
    growth_mb_per_min: float = float("nan")
    _memory: list[tuple[float, int]] = field(default_factory=list)

    def remember(self, at_s: float) -> None:
        self._memory.append((at_s, psutil.Process().memory_info().rss))

    def sum_up(self) -> None:
        """The slope of memory once all is warm and the silent one is gone."""
        begin_s = max(_WARM_S, self.cut_off_s or 0.0)
        points = np.array([(at_s, used / 1e6) for at_s, used in self._memory if at_s >= begin_s])
        if len(points) > 5:
            self.growth_mb_per_min = float(np.polyfit(points[:, 0], points[:, 1], 1)[0]) * 60


def _run(form: Form, seconds: float, per_s: int | None) -> _Run:
    site = Site(WebSettings(listen="127.0.0.1:0"), Plan(), {}, Document({}, Path.cwd()))
    running = Pipeline([], {})
    run = _Run()
    with (
        WebServer(site, running, "web.listen") as server,
        spawned(_listen, server.url, form) as say,
        _silent(server.url),
    ):
        _until(lambda: site.broadcast.listening == _CLIENTS)
        stop = threading.Event()
        told = [0]
        teller = threading.Thread(target=_tell, args=(site, per_s, stop, told))
        say.send("begin")
        begun_s = time.monotonic()
        teller.start()
        while (at_s := time.monotonic() - begun_s) < seconds:
            if run.cut_off_s is None and site.broadcast.listening < _CLIENTS:
                run.cut_off_s = at_s
            run.remember(at_s)
            time.sleep(0.25)
        stop.set()
        teller.join()
        took_s = time.monotonic() - begun_s
        time.sleep(0.5)  # what is on its way arrives
        say.send("end")
        counts, waits, sizes = say.recv()
    run.told_per_s = told[0] / took_s
    run.slowest_per_s = min(counts) / took_s
    run.p99_ms = float(np.quantile(waits, 0.99)) / 1e6
    run.bytes_each = sizes / sum(counts)
    run.sum_up()
    return run


def _tell(site: Site, per_s: int | None, stop: threading.Event, told: list[int]) -> None:
    """As the engine does: through the sink's own thread, one result after the other."""
    now = Snapshot(0.0, True, (), (), (), Latency(), 0.0, 0)
    runner = SinkRunner(FEED, site.plan.sinks[FEED], lambda: now)
    runner.open()
    begun_s = time.monotonic()
    while not stop.is_set():
        due = told[0] + 256 if per_s is None else int((time.monotonic() - begun_s) * per_s)
        while told[0] < due and not runner.full():
            runner.put(_result(told[0]), None, can_wait=True)
            told[0] += 1
        time.sleep(_SHORT_S if per_s is not None or runner.full() else 0)
    runner.finish(time.monotonic() + 5)
    runner.join(time.monotonic() + 5)


def _result(n: int) -> Result:
    done = time.monotonic_ns()
    window = Window(
        f"camera-{n % _STREAMS}", "01K0BENCH", n // _STREAMS, done, done + 1, done - 7_000_000, time.time_ns()
    )
    return Result(window, done, "resnet", "people@1", (Detection("person", 0.91, (10.0, 20.0, 110.5, 220.0)),), True)


@contextmanager
def _silent(url: str) -> Iterator[None]:
    """A client that asks for everything, and reads nothing of it."""
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 80))) as connection:
        connection.sendall(f"GET /api/feed HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        yield


def _listen(url: str, form: Form, say: Connection) -> None:
    asyncio.run(_listen_all(url, form, say))


async def _listen_all(url: str, form: Form, say: Connection) -> None:
    counts = [0] * (_CLIENTS - 1)
    waits: list[int] = []
    sizes = 0

    def got(client: int, data: bytes) -> None:
        nonlocal sizes
        now = time.monotonic_ns()
        done = [int(one) for one in _TOLD.findall(data)]
        counts[client] += len(done)
        sizes += len(data)
        if client % 5 == 0:  # of some of them: the figure is one of results, not of clients
            waits.extend(now - one for one in done)

    listen = _read_events if form == "sse" else _read_messages
    tasks = [asyncio.create_task(listen(url, partial(got, n))) for n in range(len(counts))]
    for _ in ("begin", "end"):
        await asyncio.to_thread(say.recv)
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    say.send((counts, waits or [0], sizes))


async def _read_events(url: str, got: Callable[[bytes], None]) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
    writer.write(f"GET /api/feed?kinds=result HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
    rest = b""
    while data := await reader.read(1 << 18):
        whole, _, rest = (rest + data).rpartition(b"\n")
        got(whole)


async def _read_messages(url: str, got: Callable[[bytes], None]) -> None:
    from websockets.asyncio.client import connect

    async with connect(f"{url.replace('http', 'ws')}/api/feed/ws?kinds=result&batch=true") as talk:
        async for message in talk:
            got(message.encode() if isinstance(message, str) else message)


def _until(holds: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 20
    while not holds():
        if time.monotonic() > end_s:
            raise StageError("not all clients could connect")
        time.sleep(0.01)
