"""Glass to glass: a real browser publishes its camera by WHIP and watches the same stream by WHEP, and the time runs
from a frame's capture until its own box is drawn on it.

In the browser runs `glass.js`. Chromium's fake camera plays numbered pictures (`numbered.py`); a stage reads the number
out of what arrived and reports a box that stands at it. The page finds the box by the RTP time stamp of the frame that
it draws, and reads the number of that frame again, from the pixels: so a box on another frame is counted as wrong.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from statistics import median
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


@dataclass(frozen=True, slots=True)
class Glass:
    """What the browser saw; times in milliseconds."""

    first_box_ms: float | None
    glass_ms: Sequence[float]
    wrong: int
    unmatched: int  # frames whose box had not come when they were shown
    parts: dict[str, Any]


def glass_to_glass(
    url: str,
    stream: str,
    *,
    seconds: float,
    size: tuple[int, int] = (640, 480),
    fps: int = 15,
    view: str = "raw",
) -> Glass:
    """Publish into `stream`, a `webrtc` source, and watch it for so long. Raises `MissingPart` without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise MissingPart("glass to glass needs a browser to drive: pip install playwright") from None
    if not Path(CHROMIUM).exists():
        raise MissingPart("glass to glass needs a browser: apt-get install chromium")
    script = resources.files(__package__) / "glass.js"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        film = _film(Path(folder) / "camera.y4m", size, fps)
        flags = [*_FLAGS, f"--use-file-for-fake-video-capture={film}"]
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            page = browser.new_page()
            page.goto(f"{url}/api/health")
            said = page.evaluate(script.read_text(), [stream, seconds, *size, fps, view, NUMBERS])
        finally:
            browser.close()
    frames = said["frames"]
    parts = {}
    for name in ("received", "latency", "waited", "drawn"):
        if known := [one[name] for one in frames if name in one]:
            parts[name] = median(known)
    return Glass(
        said["firstBox"], [one["glass"] for one in frames], said["wrong"], said["unmatched"], parts | said["parts"]
    )


def _film(path: Path, size: tuple[int, int], fps: int) -> Path:
    """Every number once, as Chromium's fake camera reads it, over and over."""
    width, height = size
    with path.open("wb") as film:
        film.write(f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420jpeg\n".encode())
        for number in range(NUMBERS):
            frame = VideoFrame.from_ndarray(numbered(number, width, height), format="rgb24")
            film.write(b"FRAME\n" + frame.to_ndarray(format="yuv420p").tobytes())
    return path
