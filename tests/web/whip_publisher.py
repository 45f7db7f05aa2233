"""A publisher as others have: aiortc's own, over HTTP. As a program it publishes until it is killed:

python tests/web/whip_publisher.py URL [--token TOKEN] [--codec VP8] [--size 320x240] [--rate 15] [--tone 440]
"""

from __future__ import annotations

import argparse
import asyncio
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any, Self, TypeVar
from urllib.parse import urljoin

import httpx
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

T = TypeVar("T")
RED = (200, 30, 30)


class Pictures(MediaStreamTrack):
    """One colour, and a moving square, so that pictures differ. `size` may be changed at any time."""

    kind = "video"

    def __init__(self, size: tuple[int, int] = (320, 240), rate: float = 15, colour: Sequence[int] = RED) -> None:
        super().__init__()
        self.size, self.rate, self.colour = size, rate, colour
        self.sent = 0
        self.paused = False
        self._began_s: float | None = None

    async def recv(self) -> VideoFrame:
        self._began_s = time.monotonic() if self._began_s is None else self._began_s
        self.sent += 1
        await asyncio.sleep(max(0.0, self._began_s + self.sent / self.rate - time.monotonic()))
        while self.paused:
            await asyncio.sleep(0.05)
        width, height = self.size
        pixels = np.full((height, width, 3), self.colour, np.uint8)
        left = self.sent * 8 % (width - 32)
        pixels[:32, left : left + 32] = 255
        frame = VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = self.sent * round(90_000 / self.rate), Fraction(1, 90_000)
        return frame


class Tone(MediaStreamTrack):
    kind = "audio"

    def __init__(self, hertz: float = 440) -> None:
        super().__init__()
        self.hertz, self.sent = hertz, 0
        self._began_s: float | None = None

    async def recv(self) -> AudioFrame:
        self._began_s = time.monotonic() if self._began_s is None else self._began_s
        await asyncio.sleep(max(0.0, self._began_s + self.sent / 48_000 - time.monotonic()))
        at = np.arange(self.sent, self.sent + 960) / 48_000
        samples = (np.sin(2 * np.pi * self.hertz * at) * 12_000).astype(np.int16)
        frame = AudioFrame.from_ndarray(np.repeat(samples, 2)[None], "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, self.sent, Fraction(1, 48_000)
        self.sent += 960
        return frame


class Publisher:
    """Publishes from an asyncio loop of its own. Raises `httpx.HTTPStatusError` where it is refused."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        codec: str | None = None,
        pictures: Pictures | None = None,
        tone: Tone | None = None,
    ) -> None:
        self.pictures = pictures or Pictures()
        self.headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self.response = self.do(self._publish(url, codec, tone))
            self.session = urljoin(url, self.response.headers["location"])
        except BaseException:
            self._end()
            raise

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _publish(self, url: str, codec: str | None, tone: Tone | None) -> httpx.Response:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        if tone is not None:
            self.connection.addTransceiver(tone, direction="sendonly")
        video = self.connection.addTransceiver(self.pictures, direction="sendonly")
        if codec is not None:
            there = RTCRtpSender.getCapabilities("video").codecs
            video.setCodecPreferences([one for one in there if one.mimeType == f"video/{codec}"])
        await self.connection.setLocalDescription(await self.connection.createOffer())
        headers = {"Content-Type": "application/sdp", **self.headers}
        async with httpx.AsyncClient(timeout=15) as client:
            response = await client.post(url, content=self.connection.localDescription.sdp, headers=headers)
        if response.status_code != 201:
            await self.connection.close()
        response.raise_for_status()
        await self.connection.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
        return response

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def close(self) -> None:
        """Leave as a browser's page does."""
        self.do(self._closed())
        self._end()

    async def _closed(self) -> None:
        await self.connection.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.gather(*others, return_exceptions=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def publish_for_ever(url: str) -> None:
    """What a process does that is to be killed."""
    Publisher(url, tone=Tone())
    threading.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--token")
    parser.add_argument("--codec")
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--rate", type=float, default=15)
    parser.add_argument("--tone", type=float)
    given = parser.parse_args()
    across, down = map(int, given.size.split("x"))
    publisher = Publisher(
        given.url,
        token=given.token,
        codec=given.codec,
        pictures=Pictures((across, down), given.rate),
        tone=None if given.tone is None else Tone(given.tone),
    )
    print("publishing", flush=True)
    threading.Event().wait()
