"""Watchers by WHEP in a process of their own: real peers that receive every packet and decode none, since what
decoding costs is theirs. `python -m pipeline.app.bench.watchers COUNT URL`: says `ready` once all get pictures, and
ends with its standard input, saying how many pictures came."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from subprocess import PIPE, Popen
from typing import Any

import httpx
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, rtcrtpreceiver
from aiortc.codecs.base import Decoder
from aiortc.jitterbuffer import JitterFrame

_PATIENCE_S = 60.0


class _Counting(Decoder):
    """In the place of a decoder: it says no picture, and counts what it was given."""

    pictures = 0

    def decode(self, encoded_frame: JitterFrame) -> list[Any]:
        _Counting.pictures += 1
        return []


async def _watch(client: httpx.AsyncClient, url: str) -> RTCPeerConnection:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver("video", "recvonly")
    peer.createDataChannel("detections")
    await peer.setLocalDescription(await peer.createOffer())
    said = {"Content-Type": "application/sdp"}
    answer = await client.post(url, content=peer.localDescription.sdp, headers=said)
    answer.raise_for_status()
    await peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
    return peer


async def _run(count: int, url: str) -> None:
    async with httpx.AsyncClient(timeout=_PATIENCE_S) as client:
        peers = await asyncio.gather(*(_watch(client, url) for _ in range(count)))
    while _Counting.pictures < count:
        await asyncio.sleep(0.02)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    print(json.dumps({"pictures": _Counting.pictures}), flush=True)
    await asyncio.gather(*(peer.close() for peer in peers))


class Crowd:
    """The process. `pictures` once it has ended: of all watchers together."""

    def __init__(self, count: int, url: str) -> None:
        command = [sys.executable, "-m", "pipeline.app.bench.watchers", str(count), url]
        self.process = Popen(command, stdin=PIPE, stdout=PIPE, text=True)  # noqa: S603  # our own module
        self.pictures = 0

    def ready(self) -> None:
        """Until all get pictures."""
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError("the watchers did not get to see anything")

    def end(self) -> None:
        with suppress(OSError, ValueError):
            said, _ = self.process.communicate(timeout=_PATIENCE_S)
            self.pictures = json.loads(said.splitlines()[-1])["pictures"] if said else 0


@contextmanager
def watchers(count: int, url: str) -> Iterator[Crowd]:
    crowd = Crowd(count, url)
    try:
        crowd.ready()
        yield crowd
        crowd.end()
    finally:
        crowd.process.kill()
        crowd.process.communicate()


if __name__ == "__main__":
    rtcrtpreceiver.get_decoder = lambda codec: _Counting()  # type: ignore[attr-defined]  # where it is looked up
    asyncio.run(_run(int(sys.argv[1]), sys.argv[2]))
