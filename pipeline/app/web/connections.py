"""Connections that can be broken off.

A server that ends a response waits until the client has read it; one that reads nothing is waited for without end. So
whoever streams gets the connection's own transport, and lets go of it with all that waits in it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starlette.requests import HTTPConnection
from uvicorn.protocols.http.auto import AutoHTTPProtocol


class Connection(AutoHTTPProtocol):  # type: ignore[valid-type,misc]  # which of its two classes, uvicorn chooses
    """uvicorn's own, and with it that of the WebSockets into which it turns: each request knows its transport."""

    app_state: dict[str, Any]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def break_off(connection: HTTPConnection) -> None:
    """Close it at once, whatever the client has not read yet."""
    transport = connection.scope.get("state", {}).get("transport")
    if transport is not None:
        transport.abort()


def _worth_saying(record: logging.LogRecord) -> bool:
    """What a client does wrong is the client's to know: uvicorn calls a WebSocket that is refused with an answer an
    unfinished handshake, and shows a traceback for text that is none."""
    said = record.getMessage()
    return not said.startswith(("ASGI callable returned without completing handshake", "Invalid UTF-8 sequence"))


logging.getLogger("uvicorn.error").addFilter(_worth_saying)
