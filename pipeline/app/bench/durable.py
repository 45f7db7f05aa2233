"""What durability costs: results through an outbox to a webhook on loopback, against the same without the outbox."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.app.bench.measure import Timed, in_turns, rate
from pipeline.app.bench.processes import spawned
from pipeline.app.bench.report import Report, Row, Scale, paired
from pipeline.core import reach
from pipeline.core.contracts import OutboxSettings, Remote
from pipeline.core.errors import StageError
from pipeline.core.letters import Letter, letter_of
from pipeline.core.reach import NetworkSettings
from pipeline.core.records import Detection, Result, Window
from pipeline.core.snapshot import Latency, Snapshot
from pipeline.engine.delivery import SinkRunner
from pipeline.engine.outbox import Outbox

_STREAMS = 8
_ANSWER = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"


def bench(scale: Scale) -> Report:
    from sinks.webhook import Webhook

    results = list(_results(scale.of(8_000, 60)))
    letters = [letter_of(result) for result in results]
    pairs = scale.of(6, 1)
    with (
        reach.using(NetworkSettings(private=True)),  # the receiver is this machine
        _receiver() as url,
        tempfile.TemporaryDirectory(prefix="thresher-") as folder,
    ):
        boxes = (Path(folder) / str(number) for number in range(1_000_000))

        def durable() -> int:
            sink = Webhook.model_validate({"url": url, "outbox": {"path": str(next(boxes))}})
            return _through_a_sink(sink, results)

        def bare() -> int:
            courier = Webhook.model_validate({"url": url}).connect("bench")
            try:
                sent = 0
                while sent < len(letters):
                    sent += courier.send(letters[sent : sent + courier.most])
                return sent
            finally:
                courier.close()

        sent = in_turns(rate(durable), rate(bare), pairs)
        kept = in_turns(_accepted(boxes, letters, sync=True), _accepted(boxes, letters, sync=False), pairs)
    return Report(
        [
            paired("durable: results through an outbox to a webhook", "results/s", sent, note="baseline: no outbox"),
            Row("durable: the slowest of those runs", min(sent.subject), "results/s", at_least=2_000),
            paired("durable: accepted by an outbox", "results/s", kept, note="baseline: without waiting for the disk"),
        ],
        {"streams": _STREAMS, "letter": f"{sum(len(one.body) for one in letters) // len(letters)} bytes"},
    )  # fmt: skip


def _results(count: int) -> Iterator[Result]:
    found = (Detection("person", 0.91, (10.0, 20.0, 110.5, 220.0)),)
    now = time.time_ns()
    for n in range(count):
        stream, seq = f"camera-{n % _STREAMS}", n // _STREAMS
        window = Window(stream, "01K0BENCH", seq, seq * 40_000_000, (seq + 1) * 40_000_000, n, now + n)
        yield Result(window, n + 7_000_000, "resnet", "people@1", found, flagged=True)


def _through_a_sink(sink: Remote, results: Sequence[Result]) -> int:
    """From the engine's hand to the receiver's answer, all of them."""
    now = Snapshot(0.0, True, (), (), (), Latency(), 0.0, 0)
    runner = SinkRunner("bench", sink, lambda: now)
    runner.open()
    for result in results:
        while runner.full():
            time.sleep(0.001)
        runner.put(result, None, can_wait=True)
    while not runner.drained():
        time.sleep(0.002)
    end_s = time.monotonic() + 10.0
    runner.finish(end_s)
    runner.join(end_s)
    said = runner.snapshot().outbox
    if said is None or said.delivered != len(results):
        raise StageError(f"of {len(results)} results, {said and said.delivered} were delivered")
    return len(results)


def _accepted(boxes: Iterator[Path], letters: Sequence[Letter], *, sync: bool) -> Timed:
    """The outbox alone, in the batches that the engine writes."""

    def work() -> int:
        box = Outbox(next(boxes), OutboxSettings(sync=sync))
        try:
            for start in range(0, len(letters), 256):
                box.accept(letters[start : start + 256])
            return len(letters)
        finally:
            box.close()

    return rate(work)


@contextmanager
def _receiver() -> Iterator[str]:
    """A process that takes whatever is posted; its URL."""
    with spawned(_serve) as receiver:
        yield f"http://127.0.0.1:{receiver.recv()}/hook"


def _serve(say: Connection) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Taking, "127.0.0.1", 0)
        say.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


class _Taking(asyncio.Protocol):
    """HTTP enough for a bench: requests with a Content-Length, each answered once it is whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._data) < end + 4 + length:
                return
            self._data = self._data[end + 4 + length :]
            self._transport.write(_ANSWER)
