"""Results, events and rulings as rows in PostgreSQL (see `postgres_schema`)."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field

from pipeline.core.contracts import Courier, Remote
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.reach import OutOfReachError
from pipeline.core.secrets import redact, remember, remember_url

_PORT = re.compile(r"0*(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])")
_TLS = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_PASSWORD = re.compile(r"(?i)\bpassword\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(\S+))")


class Postgres(Remote):
    """One row a window, event, ruling, audited window and outage. Whatever comes again changes nothing, another
    generation's verdict takes the place of the first, an event's row grows until it ends. Letters go in one transaction
    a batch. Tables and views are made where they are not there."""

    dsn: str = Field(
        "",
        repr=False,
        description="postgresql://user:password@host/database, or key=value words; what is not in it comes from the"
        " environment, as for psql (PGHOST, PGUSER …). TLS as it says: ?sslmode=verify-full&sslrootcert=…",
    )
    schema_name: str = Field(
        "thresher", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$", description="the schema of its tables"
    )

    def model_post_init(self, _context: object) -> None:
        self._remember()

    def _remember(self) -> None:
        remember_url(self.dsn)
        for quoted, bare in _PASSWORD.findall(self.dsn):
            remember(quoted or bare)

    def check(self) -> None:
        psycopg = _library()
        try:
            words = psycopg.conninfo.conninfo_to_dict(self.dsn)
        except psycopg.Error:
            # the library's own words would hold a part of it
            raise InputError("should be like postgresql://user@host/database", "dsn") from None
        if any("@" in host[1:] for host in str(words.get("host") or "").split(",")):  # @ first: a socket without a file
            raise InputError("has an @ too many: in a password it is written as %40", "dsn")
        if any(port and not _PORT.fullmatch(port) for port in str(words.get("port") or "").split(",")):
            raise InputError("a port is a number from 1 to 65535", "dsn")
        if words.get("sslmode", "prefer") not in _TLS:
            raise InputError(f"sslmode is one of {', '.join(_TLS)}", "dsn")
        from sinks import postgres_hosts

        try:
            postgres_hosts.check(self.dsn)
        except OutOfReachError as error:
            raise InputError(redact(error), "dsn") from None

    def connect(self, name: str) -> Courier:
        self._remember()  # again: this may be another process
        self.check()
        from sinks.postgres_putting import Putter

        return Putter(self)


def _library() -> Any:
    try:
        import psycopg
        import psycopg.conninfo
    except ImportError:
        raise MissingPart("needs the package psycopg: pip install 'thresher[postgres]'") from None
    return psycopg
