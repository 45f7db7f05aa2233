"""A server whose streams show numbered pictures, and watchers with aiortc."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import httpx
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from av.video.frame import VideoFrame

from pipeline.app.bench.numbered import numbered, reading
from pipeline.app.bench.web_site import serving
from pipeline.app.web.site import Site
from pipeline.core.contracts import Source
from sources.memory import Memory

SDP = {"Content-Type": "application/sdp"}


def camera(
    *sizes: tuple[int, int], fps: float = 15.0, repeat: int = 1000, realtime: bool = True, count: int = 128
) -> Memory:
    """Numbered pictures, so many of each size one after the other."""
    frames = [
        VideoFrame.from_ndarray(numbered(number, *size), format="rgb24").reformat(format="yuv420p")
        for size in sizes or ((320, 240),)
        for number in range(count)
    ]
    return Memory.model_validate({"script": frames, "repeat": repeat, "fps": fps, "realtime": realtime})


def served(sources: Mapping[str, Source], **settings: str) -> AbstractContextManager[tuple[str, Site]]:
    """The page's server beside a pipeline of these streams: its URL."""
    return serving(sources, reading(), **settings)


class Watching:
    """One watcher."""

    def __init__(self, *, channel: bool = True, codecs: tuple[str, ...] = ()) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._transceiver = self.peer.addTransceiver("video", "recvonly")
        if codecs:
            from aiortc.codecs import get_capabilities

            able = get_capabilities("video").codecs
            self._transceiver.setCodecPreferences([one for one in able if one.mimeType.split("/")[1] in codecs])
        self.told: list[dict[str, Any]] = []
        self.location = ""
        self.answer: httpx.Response | None = None
        if channel:
            self.peer.createDataChannel("detections").on("message", lambda text: self.told.append(json.loads(text)))

    async def begin(self, url: str, path: str) -> httpx.Response:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            answer = await client.post(path, content=self.peer.localDescription.sdp, headers=SDP)
        self.answer = answer
        if answer.status_code == 201:
            self.location = answer.headers["location"]
            await self.peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        return answer

    @property
    def origin(self) -> int:
        """The time stamp, on the wire, of the first picture: aiortc counts those of its frames from there."""
        return int(self._transceiver.receiver._RTCRtpReceiver__timestamp_mapper._origin)

    async def frame(self) -> VideoFrame:
        frame = await asyncio.wait_for(self._transceiver.receiver.track.recv(), 20)
        assert isinstance(frame, VideoFrame)
        return frame


@asynccontextmanager
async def watching(url: str, path: str, **options: Any) -> AsyncIterator[Watching]:
    watcher = Watching(**options)
    try:
        answer = await watcher.begin(url, path)
        assert answer.status_code == 201, answer.text
        yield watcher
    finally:
        await watcher.peer.close()
