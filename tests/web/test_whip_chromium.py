"""A browser's camera, published by WHIP: Chromium with a known film in place of its camera."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from page_parts import chromium
from playwright.sync_api import Browser
from whip_server import Served, serving, soon

pytestmark = pytest.mark.slow

GREEN = (60, 150, 90)
SIZE = (640, 480)
CONFIG = """
sources:
  lobby: {kind: webrtc, cascade: people, sound: {cascade: words}}
cascades: {people: {base: people}, words: {base: words}}
web: {}
"""
PUBLISH = """async ([name, codec]) => {
    const stream = await navigator.mediaDevices.getUserMedia({video: {width: 640, height: 480}, audio: true});
    const peer = new RTCPeerConnection({iceServers: []});
    for (const track of stream.getTracks()) {
        const line = peer.addTransceiver(track, {direction: "sendonly", streams: [stream]});
        if (track.kind === "video" && codec) {
            const all = RTCRtpSender.getCapabilities("video").codecs;
            line.setCodecPreferences(all.filter((one) => one.mimeType === codec));
        }
    }
    await peer.setLocalDescription();
    while (peer.iceGatheringState !== "complete") await new Promise((done) => setTimeout(done, 20));
    const response = await fetch(`/whip/${name}`, {
        method: "POST", headers: {"Content-Type": "application/sdp"}, body: peer.localDescription.sdp,
    });
    if (response.status !== 201) return {status: response.status, text: await response.text()};
    await peer.setRemoteDescription({type: "answer", sdp: await response.text()});
    window.peer = peer;
    return {status: 201, place: response.headers.get("Location"), sdp: peer.remoteDescription.sdp};
}"""


def film(path: Path) -> None:
    """A green picture with a white square that wanders, as a camera of Chromium reads it."""
    with av.open(str(path), "w", format="mjpeg") as container:
        stream = container.add_stream("mjpeg", rate=15)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p"
        for number in range(45):
            pixels = np.full((SIZE[1], SIZE[0], 3), GREEN, np.uint8)
            left = 64 + number * 8
            pixels[40:104, left : left + 64] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("whip"), CONFIG) as there:
        yield there


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    film(tmp_path / "camera.mjpeg")
    with chromium(f"--use-file-for-fake-video-capture={tmp_path / 'camera.mjpeg'}") as started:
        yield started


@pytest.mark.parametrize("codec", ["", "video/VP8", "video/H264"])
def test_its_camera_arrives_as_it_is(served: Served, browser: Browser, codec: str) -> None:
    page = browser.new_page()
    page.goto(served.url)
    before, heard = len(served.judged()), len(served.judged("lobby.sound"))
    said = page.evaluate(PUBLISH, ["lobby", codec])
    assert said["status"] == 201, said
    soon(lambda: len(served.judged()) > before + 30 and len(served.judged("lobby.sound")) > heard + 5)
    there = served.judged()[before:]
    for one in there[10:]:  # an encoder begins coarsely
        assert np.abs(np.subtract(one.colour, GREEN)).max() < 24, one
    assert there[-1].size[0] * 3 == there[-1].size[1] * 4
    steps = [b.result.window.start_ns - a.result.window.start_ns for a, b in itertools.pairwise(there)]
    assert min(steps) > 0
    page.evaluate("() => window.peer.close()")
    soon(lambda: served.stream().state == "connecting")


def test_a_killed_browser_is_noticed_within_ten_seconds(served: Served, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(served.url)
    before = len(served.judged())
    assert page.evaluate(PUBLISH, ["lobby", ""])["status"] == 201
    soon(lambda: len(served.judged()) > before + 5)
    for process in psutil.Process(os.getpid()).children(recursive=True):
        with suppress(psutil.Error):  # some go by themselves once the first is gone
            if "chromium" in " ".join(process.cmdline()):
                process.send_signal(signal.SIGKILL)
    soon(lambda: served.stream().state == "connecting", 10)
    soon(lambda: "waits for a publisher" in served.stream().detail)
