"""A connection that is let go of in the very moment in which it comes about."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiortc import RTCPeerConnection, VideoStreamTrack
from aiortc.rtcdtlstransport import RTCDtlsTransport

from sources.webrtc_ice import let_go


def test_nothing_of_it_runs_on(monkeypatch: pytest.MonkeyPatch) -> None:
    started, closings = RTCDtlsTransport.start, list[asyncio.Task[None]]()

    async def run() -> set[str]:
        ours, theirs = RTCPeerConnection(), RTCPeerConnection()

        async def start(transport: RTCDtlsTransport, *given: Any) -> None:
            await started(transport, *given)
            if transport is ours.getTransceivers()[0].receiver.transport:  # it is there, and nothing is sent yet
                closings.append(asyncio.create_task(let_go(ours, "door")))
                await asyncio.sleep(0)

        monkeypatch.setattr(RTCDtlsTransport, "start", start)
        ours.addTrack(VideoStreamTrack())
        ours.createDataChannel("detections")
        await ours.setLocalDescription(await ours.createOffer())
        await theirs.setRemoteDescription(ours.localDescription)
        await theirs.setLocalDescription(await theirs.createAnswer())
        await ours.setRemoteDescription(theirs.localDescription)
        async with asyncio.timeout(10):
            while not closings:
                await asyncio.sleep(0.01)
            await asyncio.gather(*closings)
        await let_go(theirs, "door")
        await asyncio.sleep(0.1)
        return {str(task.get_coro()) for task in asyncio.all_tasks() - {asyncio.current_task()}}

    assert not {task for task in asyncio.run(run()) if "_run_rt" in task}
