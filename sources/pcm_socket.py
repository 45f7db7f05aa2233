"""Raw PCM that somebody sends to a socket, as `ffmpeg -f s16le tcp://host:port` does."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from pipeline.core.errors import InputError, SourceLost
from pipeline.core.records import Item, Watermark
from pipeline.core.settings import Listen, address
from sources.ffmpeg import new_epoch
from sources.raw_sound import BLOCK, RawDecoder, RawSound

_TICK_S = 0.5


class PcmSocket(RawSound):
    """Listens for one client at a time; others are turned away until it goes. One that sends nothing for `silence_s`
    has to make way. Where the pipeline is behind, the client's sending waits."""

    live: ClassVar[bool] = True

    listen: Listen = Field(description="host:port to listen at; whoever can reach it can be heard, so stay local")

    @property
    def answers_at(self) -> str:
        return self.listen

    def open(self, stream: str) -> PcmSocketReader:
        return PcmSocketReader(self, stream)


class PcmSocketReader:
    """The running part of `PcmSocket`: one client."""

    def __init__(self, plan: PcmSocket, stream: str) -> None:
        self._plan, self._stream = plan, stream
        self.epoch = new_epoch()
        self.decoder = RawDecoder(plan, stream, self.epoch)
        self._closed = False
        host, port = address(plan.listen)
        try:
            self._socket = socket.create_server((host, port), family=_family(host), backlog=1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:  # somebody may leave it
                raise SourceLost(f"cannot listen at {plan.listen}: {error.strerror}") from None
            raise InputError(f"cannot listen there: {error.strerror}", plan.listen) from None
        self._socket.settimeout(_TICK_S)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._socket.getsockname()[1])

    def __iter__(self) -> Iterator[Item]:
        yield from self._await()
        heard = time.monotonic()
        while not self._closed:
            try:
                data = self._socket.recv(BLOCK)
            except TimeoutError:
                if time.monotonic() - heard > self._plan.silence_s:
                    yield from self.decoder.finish()
                    raise SourceLost("the client is connected and sends nothing") from None
                yield Watermark(self._stream, self.decoder.windows.next_ns)
                continue
            except OSError as error:
                yield from self.decoder.finish()
                raise SourceLost(f"the client is gone: {error.strerror}") from None
            if not data:
                yield from self.decoder.finish()
                raise SourceLost("the client is gone")
            heard = time.monotonic()
            yield from self.decoder.feed(data, time.monotonic_ns(), time.time_ns())

    def _await(self) -> Iterator[Item]:
        """Until there is a client. From then on nobody listens: the next one is turned away, and not kept waiting."""
        while not self._closed:
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                yield Watermark(self._stream, 0)
                continue
            except OSError as error:
                raise SourceLost(f"cannot listen any more: {error.strerror}") from None
            self._socket.close()
            self._socket = client
            self._socket.settimeout(_TICK_S)
            return

    def close(self) -> None:
        self._closed = True
        self._socket.close()


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
