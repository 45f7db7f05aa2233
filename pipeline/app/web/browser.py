"""Shows the page to whoever sits in front, and to nobody who does not."""

from __future__ import annotations

import logging
import os
import sys
import threading
import webbrowser
from collections.abc import Mapping

log = logging.getLogger(__name__)


def somebody_sits_in_front(
    environment: Mapping[str, str] = os.environ, platform: str = sys.platform, terminal: bool | None = None
) -> bool:
    """Whether a person at a screen of this machine started this: at a terminal, with a desktop around it, neither by a
    build server nor from afar."""
    if not (sys.stdout.isatty() if terminal is None else terminal):
        return False
    if environment.get("CI") or environment.get("SSH_CONNECTION"):
        return False
    if platform in {"darwin", "win32"}:
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def show(url: str) -> None:
    """Open `url`, and wait for nothing: a browser may take its time to start."""
    threading.Thread(target=_open, args=(url,), name="browser", daemon=True).start()


def _open(url: str) -> None:
    try:
        browser = webbrowser.get()
        if type(browser) is webbrowser.GenericBrowser and "BROWSER" not in os.environ:
            return  # it would draw its page into our terminal
        browser.open(url)
    except (webbrowser.Error, OSError) as error:
        log.info("no browser could be opened: %s", error)
