"""Connections to a store of clips that go to addresses which were checked, and follow no redirect."""

from __future__ import annotations

import socket

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError

from pipeline.core import reach

_CONNECT_S = 5.0


def connections(answer_s: float) -> PoolManager:
    """An answer may take `answer_s` between any two of its bytes."""
    made = PoolManager(timeout=Timeout(connect=_CONNECT_S, read=answer_s), retries=Retry(0, redirect=0))
    made.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    return made


class _Checked(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        try:
            made = reach.create_connection((self._dns_host, self.port), _CONNECT_S, private=True)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error
        return made


class _CheckedTls(HTTPSConnection, _Checked):
    """The same with TLS, which is laid over what `_Checked` connects."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Checked


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _CheckedTls
