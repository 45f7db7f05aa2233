"""Pictures of every view for the README, from a real server with a real pipeline in real Chromium:

python -m tests.web.screenshots [FOLDER]        default: tests/web/screenshots
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, Page

sys.path.insert(0, str(Path(__file__).parent))  # where pytest would have put it

from page_parts import PATIENCE_MS, chromium, everything, opened, until
from reviewed_line import served

FOLDER = Path(__file__).with_name("screenshots")
MOST_BYTES = 150_000
_WIDE, _PHONE = (1440, 900), (390, 844)
_WARM_S = 75  # until there is some history to show


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as there, served(everything(Path(there))) as (client, _):
        url = str(client.base_url).rstrip("/")
        time.sleep(_WARM_S)
        with chromium() as browser:
            _take(browser, url, folder)
    for picture in sorted(folder.glob("*.jpg")):
        print(f"{picture}  {picture.stat().st_size:,} bytes")


def _take(browser: Browser, url: str, folder: Path) -> None:
    for name, view, theme, language, size in (
        ("wall", "wall", "dark", "en-GB", _WIDE),
        ("one", "wall/people", "dark", "en-GB", _WIDE),
        ("events", "events", "light", "en-GB", _WIDE),
        ("flow", "flow", "dark", "en-GB", _WIDE),
        ("promise", "promise", "light", "en-GB", _WIDE),
        ("review", "review", "dark", "en-GB", _WIDE),
        ("phone-wall", "wall", "light", "zh-CN", _PHONE),
        ("phone-flow", "flow", "dark", "zh-CN", _PHONE),
    ):
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            device_scale_factor=2 if size is _PHONE else 1,
            color_scheme=theme,  # type: ignore[arg-type]
            locale=language,
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        opened(page, url, view)
        _settle(page, url, view)
        _write(page, folder / f"{name}.jpg")
        context.close()


def _settle(page: Page, url: str, view: str) -> None:
    """Until there is to see what the view is for."""
    if view.startswith("wall"):
        page.wait_for_selector(".picture[data-shows=webrtc]")
        until(page, "[...document.querySelectorAll('.picture')].some((one) => Number(one.dataset.boxes) > 0)")
    elif view == "events":
        until(page, "[...document.querySelectorAll('.card img')].some((one) => one.naturalWidth > 0)")
        page.locator(".card").nth(1).click()
        page.wait_for_selector(".record .shot img")
    elif view == "promise":
        page.get_by_label("Threshold", exact=True).wait_for(timeout=5 * PATIENCE_MS)
        page.locator("section.cascade").last.scroll_into_view_if_needed()
        page.evaluate("document.querySelectorAll('section.cascade')[1].scrollIntoView()")
    elif view == "review":
        until(page, "document.querySelector('.sheet img')?.naturalWidth > 0")
    else:
        page.wait_for_timeout(8000)  # some seconds of history
    page.wait_for_timeout(1500)


def _write(page: Page, path: Path) -> None:
    for quality in (82, 70, 55, 40):
        page.screenshot(path=path, type="jpeg", quality=quality)
        if path.stat().st_size <= MOST_BYTES:
            return
    raise SystemExit(f"{path} is larger than {MOST_BYTES} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
