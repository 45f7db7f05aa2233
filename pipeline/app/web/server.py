"""The one server: uvicorn on the process' network loop, where the WebRTC connections live, too."""

from __future__ import annotations

import asyncio
import logging
import socket
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Self

from pipeline.app.web.site import Site
from pipeline.core.errors import InputError, MissingPart
from pipeline.engine.pipeline import Pipeline
from sources.network_loop import network_loop

log = logging.getLogger(__name__)
_CLOSING_S = 3.0
_LARGEST_MESSAGE = 64 << 10  # over a WebSocket, from a client: there is nothing to say


class WebServer:
    """Answers from when it is made until it is closed. Raises `InputError` where it cannot listen."""

    def __init__(self, site: Site, running: Pipeline, place: str) -> None:
        try:
            import uvicorn

            from pipeline.app.web.app import application
            from pipeline.app.web.connections import Connection
        except ImportError as error:
            raise MissingPart("the page needs some packages: pip install 'thresher[web]'", place) from error
        self._site = site
        site.shows(running)
        self._site = site
        host, port = site.settings.address
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family, backlog=512)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or "this is no address"
            raise InputError(f"cannot listen on {host}:{port}: {reason}", place) from error
        self.port: int = self._socket.getsockname()[1]
        scheme = "http" if site.settings.certificate is None else "https"
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"
        config = uvicorn.Config(
            application(site),
            http=Connection,
            ws_max_size=_LARGEST_MESSAGE,
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
            server_header=False,
            ssl_certfile=site.settings.certificate,
            ssl_keyfile=site.settings.key,
            timeout_graceful_shutdown=1,
            lifespan="off",
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.run_coroutine_threadsafe(self._server._serve([self._socket]), network_loop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Connections get a second to end. Safe twice."""
        self._site.broadcast.close()
        self._server.should_exit = True
        try:
            self._serving.result(_CLOSING_S)
        except (TimeoutError, CancelledError):
            self._serving.cancel()
            log.warning("the page's server did not end in time")
        finally:
            self._socket.close()
            self._site.close()
