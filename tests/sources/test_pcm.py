"""Raw PCM: from files, through pipes and over sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import InputError, SourceLost
from pipeline.core.records import Array, Item, Watermark
from sources.pcm import Pcm
from sources.pcm_socket import PcmSocket, PcmSocketReader
from sources.raw_sound import RawDecoder
from tests.contracts import source_suite as suite
from tests.sources.sounds import tone


def fresh(items: list[Item]) -> Array:
    return np.concatenate([c.payload.sample() for c in suite.chunks(items)])


def raw(seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> bytes:
    return (tone(seconds, rate, channels=channels).T * 32767).astype("<i2").tobytes()


def test_contract_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(raw(1.05))
    plan = Pcm(path=str(path), window_s=0.5)
    assert not plan.live and not plan.paced and Pcm(realtime=True).paced
    suite.check_plan(plan)
    suite.check_closing(plan)
    _, items = suite.read(plan)
    suite.check_items(items, received=11)
    suite.check_replay(plan)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("s16le", np.array([0, 16384, -32768], "<i2")),
        ("s32le", np.array([0, 1 << 30, -(1 << 31)], "<i4")),
        ("f32le", np.array([0, 0.5, -1], "<f4")),
        ("u8", np.array([128, 192, 0], "u1")),
    ],
)
def test_every_format(tmp_path: Path, kind: str, data: Array) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(data.tobytes())
    _, items = suite.read(Pcm(path=str(path), format=kind))
    assert np.allclose(fresh(items), [0, 0.5, -1])


@pytest.mark.parametrize("size", [1, 3, 1000, 4096])
def test_bytes_in_pieces_of_any_size(size: int) -> None:
    data = raw(0.5, 44_100, channels=2)
    plan = Pcm(rate_in=44_100, channels=2)
    whole, pieces = RawDecoder(plan, suite.STREAM, "E"), RawDecoder(plan, suite.STREAM, "E")
    at_once = whole.feed(data, 1, 1) + whole.finish()
    cut = [i for n in range(0, len(data), size) for i in pieces.feed(data[n : n + size], 1, 1)] + pieces.finish()
    assert np.array_equal(fresh(at_once), fresh(cut))


def test_half_a_sample_at_the_end_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(raw(0.3) + b"\x01")
    _, items = suite.read(Pcm(path=str(path)))
    suite.check_items(items, received=4, intact=False)
    assert suite.gaps(items, "damaged") == 1 and len(suite.chunks(items)) == 3


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.raw").touch()
    with pytest.raises(InputError, match="No such file"):
        Pcm(path=str(tmp_path / "absent.raw")).check()
    with pytest.raises(InputError, match="no file and no named pipe"):
        Pcm(path=str(tmp_path)).check()
    with pytest.raises(InputError, match="there was nothing in it"):
        suite.read(Pcm(path=str(tmp_path / "empty.raw")))


def test_a_named_pipe_is_waited_for_and_ends_with_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:
        time.sleep(0.7)
        with path.open("wb") as pipe:
            pipe.write(raw(0.5))
            pipe.flush()
            time.sleep(0.8)
            pipe.write(raw(0.5))

    writer = threading.Thread(target=write)
    writer.start()
    _, items = suite.read(Pcm(path=str(path)))
    writer.join()
    suite.check_items(items, received=10)
    assert sum(isinstance(item, Watermark) for item in items) >= 2, "silence is said"


def test_standard_input(project: Path) -> None:
    code = (
        "from sources.pcm import Pcm; from pipeline.core.records import Chunk\n"
        "print(sum(isinstance(i, Chunk) for i in Pcm().open('mic')))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], input=raw(2.0), capture_output=True, cwd=project, timeout=60, check=True
    )
    assert ran.stdout.strip() == b"20"


# A socket.


@pytest.fixture
def listening() -> Iterator[PcmSocketReader]:
    with closing(PcmSocket(listen="127.0.0.1:0", silence_s=1.0, window_s=0.5).open(suite.STREAM)) as reader:
        yield reader


def client(reader: PcmSocketReader) -> socket.socket:
    return socket.create_connection(("127.0.0.1", reader.port), timeout=5)


def until_lost(reader: PcmSocketReader) -> tuple[list[Item], str]:
    items: list[Item] = []
    with pytest.raises(SourceLost) as lost:  # noqa: PT012  # what came before counts
        for item in reader:
            items.append(item)  # noqa: PERF402
    return items, str(lost.value)


def test_contract_of_a_socket() -> None:
    plan = PcmSocket(listen="127.0.0.1:0")
    assert plan.live and plan.paced
    suite.check_plan(plan)
    suite.check_epochs(plan)
    reader = plan.open(suite.STREAM)
    reader.close()
    reader.close()
    assert list(reader) == []


def test_a_client_is_heard_until_it_goes(listening: PcmSocketReader) -> None:
    with client(listening) as sender:
        sender.sendall(raw(1.0))
    items, why = until_lost(listening)
    suite.check_items(items, received=10)
    assert why == "the client is gone"


def test_half_a_sample_is_damage_there_too(listening: PcmSocketReader) -> None:
    with client(listening) as sender:
        sender.sendall(raw(0.3) + b"\x01")
    items, _ = until_lost(listening)
    assert suite.gaps(items, "damaged") == 1 and len(suite.chunks(items)) == 3


def test_silence_is_said_and_a_client_that_stalls_makes_way(listening: PcmSocketReader) -> None:
    items = iter(listening)
    assert isinstance(next(items), Watermark), "while nobody is there"
    with client(listening) as sender:
        sender.sendall(raw(0.3))
        got, why = until_lost(listening)
        assert "sends nothing" in why
        assert any(isinstance(item, Watermark) for item in got)
        suite.check_items(got, received=3)


def test_one_client_at_a_time(listening: PcmSocketReader) -> None:
    with client(listening) as sender:
        sender.sendall(raw(0.3))
        items = iter(listening)
        next(item for item in items if not isinstance(item, Watermark))
        with pytest.raises(ConnectionRefusedError):
            client(listening_at(sender))


def listening_at(sender: socket.socket) -> PcmSocketReader:
    """Whatever would listen where `sender` was let in."""

    class There:
        port = sender.getpeername()[1]

    return There()  # type: ignore[return-value]


def test_a_slow_pipeline_makes_the_client_wait(listening: PcmSocketReader) -> None:
    sent = 0
    with client(listening) as sender:
        sender.settimeout(0.3)
        items = iter(listening)
        sender.sendall(raw(0.2))
        next(item for item in items if not isinstance(item, Watermark))
        with suppress(TimeoutError):
            for _ in range(4000):
                sent += sender.send(raw(1.0))
    assert sent < 32_000 * 600, "what nobody takes stays with the sender"


def test_a_port_that_is_taken_is_waited_for(listening: PcmSocketReader) -> None:
    with pytest.raises(SourceLost, match="in use"):
        PcmSocket(listen=f"127.0.0.1:{listening.port}").open(suite.STREAM)
    with pytest.raises(InputError, match="cannot listen"):
        PcmSocket(listen="192.0.2.1:9000").open(suite.STREAM)
