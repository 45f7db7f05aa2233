"""What the tests of the page share: real Chromium before a real server behind which a real pipeline runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright
from reviewed_line import BOARDS, config

from pipeline.app.config.document import Document

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)
VIEWS = ("wall", "events", "flow", "promise", "review")
PATIENCE_MS = 60_000  # the machine may be busy with other things
_CLIPS = {"people": Path("pipeline/app/demo/people.mp4"), "bikes": Path("tests/data/bikes.mp4")}
_WATCH = """
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) =>
        violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


def everything(folder: Path, **sections: Any) -> Document:
    """A config in which every view has something to show: films and parts, a store, an audit, doubts."""
    films = {
        name: {
            "kind": "file",
            "path": str(path.resolve()),
            "loop": True,
            "realtime": True,
            "max_fps": 3,
            "cascade": "people",
        }
        for name, path in _CLIPS.items()
    }
    line = {**BOARDS, "fps": 2, "repeat": 0, "cascade": "pcb"}
    audit = {"share": 0.3, "key": "a key of this test", "alpha": 0.1, "state": str(folder / "audit.json")}
    document = config(folder)
    document.data = {
        **{name: value for name, value in document.data.items() if name == "web"},
        "sources": {**films, "line": line},
        "cascades": {"people": {"base": "people"}, "pcb": {"base": "pcb", "audit": audit}},
        "events": {"start_after": 2, "end_after_s": 2},
        "sinks": {
            "db": {"kind": "sqlite", "path": str(folder / "run.sqlite")},
            "doubts": {"kind": "doubts", "path": str(folder / "doubts"), "every_s": 1},
        },
        **sections,
    }
    return document


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *more])
        try:
            yield browser
        finally:
            browser.close()


class Seen:
    """What went wrong in a page, or went elsewhere. `allowed`: parts of messages that are no mistake."""

    def __init__(self, context: BrowserContext, home: str, allowed: Sequence[str] = ()) -> None:
        self.wrong: list[str] = []
        self._home, self._allowed = home, allowed
        context.add_init_script(_WATCH)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.wrong.append(str(error.error)))
        context.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        text = f"{message.text} {message.location.get('url', '')}"
        if message.type in {"error", "warning"} and not any(one in text for one in self._allowed):
            self.wrong.append(text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self._home, "data:", "blob:")):
            self.wrong.append(f"asked for {request.url}")

    def mistakes(self, page: Page) -> list[str]:
        """Whatever was wrong, until now."""
        return [*page.evaluate("window.violations"), *self.wrong]


def opened(page: Page, url: str, view: str) -> None:
    """The view, filled with what the server says."""
    page.goto(f"{url}/#/{view}")
    page.wait_for_selector("main h1", timeout=PATIENCE_MS)
    page.wait_for_selector(FILLED.get(view.partition("/")[0], "main h1"), timeout=PATIENCE_MS)


def until(page: Page, script: str, arg: Any = None) -> None:
    """Until `script`, an expression or a function, says yes. Playwright's own waiting asks the page to evaluate a text,
    which its policy forbids."""
    end = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(script, arg):
        assert time.monotonic() < end, f"never came true: {script}"
        page.wait_for_timeout(50)


FILLED = {
    "wall": ".tile .pill, .one .figures",
    "events": ".cards .card",
    "flow": "svg.flow g",
    "promise": ".cascade .panel",
    "review": ".desk",
}
"""What is there once a view has got its answers."""
