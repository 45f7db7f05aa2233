"""The interface under load: how soon it answers a client in a process of its own while the pipeline runs flat out on
all cores, and what that costs the pipeline."""

from __future__ import annotations

import asyncio
import http.client
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from pipeline.app.bench.processes import spawned
from pipeline.app.bench.report import Report, Row, Scale
from pipeline.app.config.document import Document
from pipeline.app.runner import served
from pipeline.app.wiring import prepare
from pipeline.core.errors import ThresherError
from pipeline.engine.pipeline import Pipeline

_PATHS = ("/api/health", "/api/snapshot", "/api/streams", "/api/results?limit=50", "/api/events?limit=50")
_BARE = "/"
_EVERY_S = 0.02
_READY_S = 120.0


def bench(scale: Scale) -> Report:
    seconds = scale.of(20, 2)
    with tempfile.TemporaryDirectory() as folder, _flat_out(Path(folder)) as (url, running):
        alone = _rate(running, seconds)
        with spawned(_serve_bare) as bare, spawned(_ask, url, bare.recv()) as say:
            say.recv()  # it has asked for each once
            asked = _rate(running, seconds)
            say.send("end")
            waits: dict[str, list[float]] = say.recv()
        stages = " → ".join(str(one.stage) for one in running.snapshot().stages)
    nothing = waits.pop(_BARE)
    everything = [one for many in waits.values() for one in many]
    note = f"{len(everything)} requests; {_quantiles(everything)}; baseline: a process with nothing to do beside it"
    rows = [
        Row("web-api: answer under load, p99", _p99(everything), "ms", _p99(nothing), at_most=50, note=note),
        *(
            Row(f"web-api: {path.partition('?')[0]} under load, p99", _p99(many), "ms", note=_quantiles(many))
            for path, many in waits.items()
        ),
        Row("web-api: results while the interface is asked", asked, "results/s", alone, asked / alone),
    ]
    return Report(rows, {"streams": "2 × 640×360, as fast as they are judged", "stages": stages, "seconds": seconds})


@contextmanager
def _flat_out(folder: Path) -> Iterator[tuple[str, Pipeline]]:
    """Two streams that are judged as fast as this machine can, and the server beside them."""
    endless = {"kind": "pattern", "realtime": False}
    data: dict[str, Any] = {
        "sources": {"left": endless, "right": endless | {"picture": "noise"}},
        "sinks": {"db": {"kind": "sqlite", "path": str(folder / "results.sqlite")}},
        "web": {"listen": "127.0.0.1:0", "review": False},
    }
    document = Document(data, folder, "bench")
    plan, generations = prepare(document)
    with served(plan, generations, document, drain_s=1.0) as (server, running):
        assert server is not None
        running.start()
        _until_judged(running)
        yield server.url, running


def _until_judged(running: Pipeline) -> None:
    end_s = time.monotonic() + _READY_S
    while not all(one.results > 50 for one in running.snapshot().streams):
        if time.monotonic() > end_s:
            raise ThresherError("the streams were not judged in time")
        time.sleep(0.1)


def _rate(running: Pipeline, seconds: float) -> float:
    begun_s, before = time.monotonic(), _results(running)
    time.sleep(seconds)
    return (_results(running) - before) / (time.monotonic() - begun_s)


def _results(running: Pipeline) -> int:
    return sum(one.results for one in running.snapshot().streams)


def _serve_bare(say: Connection) -> None:
    """What this machine makes anybody wait who answers at all, so loaded as it is."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client leaves
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)

    async def serve() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        say.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    asyncio.run(serve())


def _ask(url: str, bare_url: str, say: Connection) -> None:
    """One after the other over one connection, as a page does; milliseconds of each, by path."""
    client, bare = (http.client.HTTPConnection(urlsplit(one).netloc, timeout=30) for one in (url, bare_url))
    asked = [*((client, path) for path in _PATHS), (bare, _BARE)]
    waits: dict[str, list[float]] = defaultdict(list)
    for whom, path in asked:
        _get(whom, path)
    say.send("began")
    while not say.poll():
        for whom, path in asked:
            begun_s = time.perf_counter()
            _get(whom, path)
            took_s = time.perf_counter() - begun_s
            waits[path].append(took_s * 1e3)
            time.sleep(max(0.0, _EVERY_S - took_s))
    say.send(dict(waits))


def _get(client: http.client.HTTPConnection, path: str) -> None:
    client.request("GET", path)
    answer = client.getresponse()
    answer.read()
    if answer.status != 200:
        raise ThresherError(f"{path} was answered with {answer.status}")


def _p99(waits: Sequence[float]) -> float:
    return float(np.quantile(waits, 0.99))


def _quantiles(waits: Sequence[float]) -> str:
    return f"p50 {np.quantile(waits, 0.5):.1f} ms, longest {max(waits):.1f} ms"
