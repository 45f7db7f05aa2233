"""The page's first load in real Chromium: its bytes, and how soon one sees a picture."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from pipeline.app.assemble import assemble
from pipeline.app.bench.glass import CHROMIUM
from pipeline.app.bench.report import Report, Row, Scale
from pipeline.app.demo import CLIP
from pipeline.core.errors import MissingPart

_FLAGS: Final = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
_PATIENCE_S: Final = 60.0
_MOST_BYTES: Final = 300_000
_MOST_MS: Final = 1_500


@dataclass(frozen=True, slots=True)
class Load:
    """One first load, with an empty cache. Times in milliseconds since the address was entered; `own_bytes` is what the
    page itself is made of, as it came over the wire, headers included."""

    own_bytes: int
    all_bytes: int  # until there was a picture
    picture_ms: float
    moving_ms: float


def bench(scale: Scale) -> Report:
    from pipeline.app.runner import served
    from pipeline.app.wiring import prepare

    with tempfile.TemporaryDirectory() as folder:
        document = assemble(
            [str(CLIP)],
            assignments=[
                "web.listen=127.0.0.1:0",
                f"sinks={{db: {{kind: sqlite, path: {folder}/run.sqlite}}}}",
                f"sources.{CLIP.stem}.loop=true",
                f"sources.{CLIP.stem}.realtime=true",
            ],
            web=True,
        )
        plan, generations = prepare(document)
        with served(plan, generations, document, drain_s=2.0) as (server, running):
            assert server is not None
            running.start()
            running.wait(3.0)
            loads = first_loads(server.url, scale.of(10, 2))
    rows = (
        Row("page, first load", loads[0].own_bytes, "bytes", at_most=_MOST_BYTES),
        Row("page, first load with its first picture", loads[0].all_bytes, "bytes"),
        Row("page, time to a picture", median(one.picture_ms for one in loads), "ms", at_most=_MOST_MS),
        Row("page, time to a moving picture", median(one.moving_ms for one in loads), "ms"),
    )
    return Report(rows, {"loads": len(loads), "viewport": "1920x1080", "browser": "chromium, headless, no GPU"})


def first_loads(url: str, count: int) -> Sequence[Load]:
    """So many, each by a browser that has never been there. Raises `MissingPart` without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise MissingPart("the page's figures need a browser to drive: pip install playwright") from None
    if not Path(CHROMIUM).exists():
        raise MissingPart("the page's figures need a browser: apt-get install chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        try:
            browser.new_context().new_page().goto("about:blank")  # its own beginnings are not the page's
            return [_load(browser, url) for _ in range(count)]
        finally:
            browser.close()


def _load(browser: Any, url: str) -> Load:
    context = browser.new_context(viewport={"width": 1920, "height": 1080})
    page = context.new_page()
    wire = context.new_cdp_session(page)
    places: dict[str, str] = {}
    sizes: dict[str, int] = {}
    wire.on("Network.requestWillBeSent", lambda said: places.update({said["requestId"]: said["request"]["url"]}))
    wire.on("Network.loadingFinished", lambda said: sizes.update({said["requestId"]: said["encodedDataLength"]}))
    wire.send("Network.enable")
    page.goto(url)
    picture_ms = _marked(page, "first-picture")
    all_bytes = sum(sizes.values())
    moving_ms = _marked(page, "first-motion")
    own = sum(
        size
        for one, size in sizes.items()
        if places[one].removeprefix(url).startswith(("/page/", "/#")) or places[one] in {url, f"{url}/"}
    )
    context.close()
    return Load(own, all_bytes, picture_ms, moving_ms)


def _marked(page: Any, name: str) -> float:
    """When the page set that mark. Asked for again and again: waiting as Playwright does would need a looser policy."""
    end_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end_s:
        found = page.evaluate("(name) => performance.getEntriesByName(name).map((one) => one.startTime)", name)
        if found:
            return float(found[0])
        page.wait_for_timeout(20)
    return math.nan
