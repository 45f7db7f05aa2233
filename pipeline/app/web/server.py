"""The one server: uvicorn on the process' network loop, where the WebRTC connections live, too."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from concurrent.futures import CancelledError
from contextlib import suppress
from types import TracebackType
from typing import Self

import uvicorn

from pipeline.app.config.tls import server_context
from pipeline.app.web.app import application
from pipeline.app.web.connections import Door, HttpConnection, WebSocketConnection
from pipeline.app.web.site import Site
from pipeline.core.errors import InputError
from pipeline.engine.pipeline import Pipeline
from sources.network_loop import network_loop, on_the_network
from sources.webrtc_peers import let_all_go

log = logging.getLogger(__name__)
_CLOSING_S = 3.0
_SWITCH_S = 0.0005
"""After how long a thread has to hand over the interpreter. Python's own 5 ms are waited for several times in one
answer while decoders and the engine are busy; with a tenth of it answers come sooner and results no slower (`thresher
bench web-api`)."""
_LARGEST_MESSAGE = 64 << 10  # over a WebSocket, from a client: there is nothing to say
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # names for a person to follow, not to listen at


class WebServer:
    """Answers from when it is made until it is closed. Raises `InputError` where it cannot listen."""

    def __init__(self, site: Site, running: Pipeline, place: str) -> None:
        self.site, settings = site, site.settings
        host, port = settings.address
        self._socket = Door(_listening(host, port, place))
        site.shows(running)
        self.port: int = self._socket.getsockname()[1]
        certificate, key = settings.certificate, settings.key
        secure = certificate is not None and key is not None
        name = _ANYWHERE.get(host, host)
        self.url = f"http{'s' if secure else ''}://{f'[{name}]' if ':' in name else name}:{self.port}"
        self.app = application(site)
        config = uvicorn.Config(
            self.app,
            http=HttpConnection,
            ws=WebSocketConnection,
            ws_max_size=_LARGEST_MESSAGE,
            ws_per_message_deflate=False,
            log_config=None,
            log_level=logging.CRITICAL,  # what strangers send is no news, and what a route does is told by the guards
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.hosts),
            ssl_context_factory=(lambda *_: server_context(certificate, key)) if certificate and key else None,
            timeout_graceful_shutdown=1,
            lifespan="off",
        )
        self._server = uvicorn.Server(config)
        self._switch_s = sys.getswitchinterval()
        sys.setswitchinterval(min(self._switch_s, _SWITCH_S))
        # outside the main thread it leaves signals alone
        self._serving = asyncio.run_coroutine_threadsafe(self._server.serve([self._socket]), network_loop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def announcement(self) -> str:
        """Where it is, for whoever started it."""
        settings = self.site.settings
        words = f"page: {self.url}" + (", which asks for a token" if settings.guarded else "")
        if not settings.local and settings.certificate is None and not settings.hosts:
            words += "; without `web.certificate` its tokens can be read on the way, and a browser lends it no camera"
        return words

    def close(self) -> None:
        """Connections get a second to end. Safe twice."""
        self.site.broadcast.close()
        with suppress(TimeoutError):
            on_the_network(self._let_go(), _CLOSING_S)
        self._server.should_exit = True
        try:
            self._serving.result(_CLOSING_S)
        except (TimeoutError, CancelledError):
            self._serving.cancel()
            log.warning("the page's server did not end in time")
        finally:
            sys.setswitchinterval(self._switch_s)
            self._socket.close()
            self.site.close()

    async def _let_go(self) -> None:
        """Of all who watch or publish."""
        published = {name for name, source in self.site.plan.sources.items() if source.published}
        await asyncio.gather(self.site.whep.close(), let_all_go(published))


def _listening(host: str, port: int, place: str) -> socket.socket:
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=512, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "this is no address"
        raise InputError(f"cannot listen on {host}:{port}: {reason}", place) from error
