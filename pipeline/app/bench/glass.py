"""Glass to glass: a real browser publishes its camera by WHIP and watches the same stream by WHEP, and the time runs
from a frame's capture until its own box is drawn on it.

Chromium's fake camera plays numbered pictures (`numbered.py`); a stage reads the number out of what arrived and reports
a box that stands at it. The page finds the box by the RTP time stamp of the frame that it is about to show, and reads
the number of that frame again, from the pixels: so a box on another frame is counted as wrong.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from av.video.frame import VideoFrame

from pipeline.app.bench.numbered import NUMBERS, numbered
from pipeline.core.errors import MissingPart

CHROMIUM: Final = "/usr/bin/chromium"
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)

_SCRIPT: Final = """async ([stream, seconds, width, height, fps, view]) => {
    const begun = performance.now();
    const small = new OffscreenCanvas(160, 120).getContext("2d", {willReadFrequently: true});
    const shown = new OffscreenCanvas(width, height).getContext("2d");
    const numberIn = (video) => {
        small.drawImage(video, 0, 0, 160, 120);
        const {data} = small.getImageData(0, 27, 160, 1);
        let word = 0;
        for (let bit = 0; bit < 8; bit++) {
            const light = data[4 * Math.round((bit + 1.5) * 16)];
            if (light > 90 && light < 165) return null;
            word |= (light > 128) << bit;
        }
        let ones = 0;
        for (let bit = 0; bit < 8; bit++) ones += word >> bit & 1;
        return ones % 2 ? null : word >> 1;
    };
    const post = async (path, peer) => {
        await peer.setLocalDescription();
        if (peer.iceGatheringState !== "complete") await new Promise((done) => {
            peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && done());
        });
        const response = await fetch(path, {
            method: "POST", headers: {"Content-Type": "application/sdp"}, body: peer.localDescription.sdp,
        });
        if (response.status !== 201) throw new Error(path + ": " + response.status + " " + await response.text());
        await peer.setRemoteDescription({type: "answer", sdp: await response.text()});
    };
    const show = (source) => {
        const video = document.createElement("video");
        video.muted = video.autoplay = video.playsInline = true;
        video.srcObject = source;
        document.body.append(video);
        return video;
    };
    const camera = await navigator.mediaDevices.getUserMedia({video: {width, height, frameRate: fps}});
    const captured = new Map();
    const local = show(camera);
    const see = (now, about) => {
        const number = numberIn(local);
        if (number !== null) captured.set(number, about.captureTime ?? now);
        local.requestVideoFrameCallback(see);
    };
    local.requestVideoFrameCallback(see);

    const publisher = new RTCPeerConnection({iceServers: []});
    publisher.addTransceiver(camera.getVideoTracks()[0], {direction: "sendonly", streams: [camera]});
    const watcher = new RTCPeerConnection({iceServers: []});
    const receiver = watcher.addTransceiver("video", {direction: "recvonly"}).receiver;
    receiver.jitterBufferTarget = 0;
    receiver.playoutDelayHint = 0;
    const told = new Map();
    const frames = [];
    const messages = [];
    watcher.createDataChannel("detections", {ordered: false, maxRetransmits: 0}).onmessage = (message) => {
        const one = JSON.parse(message.data);
        told.set(one.rtp, one);
        messages.push({number: one.detections[0]?.box[0], now: performance.now(), latency: one.latency_ms});
        if (told.size > 256) told.delete(told.keys().next().value);
    };
    let firstBox = null;
    let unmatched = 0;
    let wrong = 0;
    let later = 0;
    let exact = false;
    watcher.ontrack = ({track}) => {
        const remote = show(new MediaStream([track]));
        const draw = (now, about) => {
            remote.requestVideoFrameCallback(draw);
            const frame = new VideoFrame(remote);  // by now it may be a later one than the callback is about
            const rtp = frame.metadata?.().rtpTimestamp;
            if (rtp !== undefined && rtp !== about.rtpTimestamp) later += 1;
            exact ||= rtp !== undefined;
            const number = numberIn(frame);
            const one = told.get(rtp ?? about.rtpTimestamp);
            shown.drawImage(frame, 0, 0);
            frame.close();
            if (one === undefined) { unmatched += 1; return; }
            for (const {box: [left, top, right, bottom]} of one.detections) {
                shown.strokeRect(left, top, right - left, bottom - top);
            }
            const at = performance.now();
            const box = one.detections[0]?.box[0];
            if (number === null || box === undefined) return;
            if (firstBox === null) firstBox = at - begun;
            if (box !== number) wrong += 1;
            const from = captured.get(number);
            if (from !== undefined) frames.push({
                number, glass: at - from, received: about.receiveTime - from, latency: one.latency_ms,
                processing: 1000 * (about.processingDuration ?? 0), drawn: at - now, compositor: now - about.receiveTime,
            });
        };
        remote.requestVideoFrameCallback(draw);
    };
    const watch = async () => {
        for (;;) {
            try { return await post(`/whep/${stream}?view=${view}`, watcher); } catch (error) { if (performance.now() - begun > 5000) throw error; }
        }
    };
    await Promise.all([post(`/whip/${stream}`, publisher), watch()]);
    await new Promise((done) => setTimeout(done, seconds * 1000));
    const codecs = {};
    for (const [name, peer] of [["sent", publisher], ["received", watcher]]) {
        for (const one of (await peer.getStats()).values()) if (one.type === "codec") codecs[name] = one.mimeType;
        for (const one of (await peer.getStats()).values()) {
            if (one.type === "inbound-rtp") codecs.jitterBuffer = 1000 * one.jitterBufferDelay / one.jitterBufferEmittedCount;
            if (one.type === "inbound-rtp") codecs.decode = 1000 * one.totalDecodeTime / one.framesDecoded;
            if (one.type === "outbound-rtp") codecs.encode = 1000 * one.totalEncodeTime / one.framesEncoded;
        }
    }
    publisher.close();
    watcher.close();
    return {later, exact, firstBox, unmatched, wrong, frames, messages, codecs};
}"""


@dataclass(frozen=True, slots=True)
class Glass:
    """What the browser saw; times in milliseconds."""

    first_box_ms: float | None
    glass_ms: Sequence[float]
    wrong: int
    unmatched: int
    parts: dict[str, Any]


def glass_to_glass(
    url: str, stream: str, *, seconds: float, size: tuple[int, int] = (640, 480), fps: int = 15, view: str = "raw"
) -> Glass:
    """Publish into `stream`, a `webrtc` source, and watch it for so long. Raises `MissingPart` without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise MissingPart("glass to glass needs a browser to drive: pip install playwright") from None
    if not Path(CHROMIUM).exists():
        raise MissingPart("glass to glass needs a browser: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        film = _film(Path(folder) / "camera.y4m", size, fps)
        flags = [*_FLAGS, f"--use-file-for-fake-video-capture={film}"]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            page = browser.new_page()
            page.goto(f"{url}/api/health")
            said = page.evaluate(_SCRIPT, [stream, seconds, *size, fps, view])
        finally:
            browser.close()
    frames = said["frames"]
    return Glass(said["firstBox"], [one["glass"] for one in frames], said["wrong"], said["unmatched"], said)


def _film(path: Path, size: tuple[int, int], fps: int) -> Path:
    """Every number once, as Chromium's fake camera reads it, over and over."""
    width, height = size
    with path.open("wb") as film:
        film.write(f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(NUMBERS):
            frame = VideoFrame.from_ndarray(numbered(number, width, height), format="rgb24")
            film.write(b"FRAME\n" + frame.to_ndarray(format="yuv420p").tobytes())
    return path
