"""Connections to Redis that go to addresses which were checked."""

from __future__ import annotations

import socket

from redis.connection import Connection, SSLConnection

from pipeline.core import reach


class Checked(Connection):
    def _connect(self) -> socket.socket:
        made = reach.create_connection((self.host, self.port), self.socket_connect_timeout, private=True)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (self.socket_keepalive_options or {}).items():
                made.setsockopt(socket.IPPROTO_TCP, option, value)
            made.settimeout(self.socket_timeout)
        except OSError:
            made.close()
            raise
        return made


class CheckedTls(SSLConnection, Checked):
    """The same with TLS, which is laid over what `Checked` connects."""
