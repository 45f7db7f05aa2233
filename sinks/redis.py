"""Results, events and rulings as entries of Redis streams."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import Field

from pipeline.core import reach
from pipeline.core.contracts import Courier, Remote
from pipeline.core.errors import InputError, MissingPart, SinkBusy, SinkRefused
from pipeline.core.letters import Letter
from pipeline.core.secrets import redact, remember_url
from sinks.sending import ANSWER_S, BEGIN_S, Arrivals, filled, raw

_SCHEMES: Final = frozenset({"redis", "rediss", "unix"})
_DATABASE: Final = re.compile(r"/?|/\d+")
_LARGEST: Final = 512 << 20  # bytes of a value, where the server does not tell its own limit
_BLAMED_ON_IT: Final = ("invalid bulk length", "string exceeds maximum allowed size", "too big")

_ADD: Final = """
-- KEYS: the stream, the ids of its latest letters. ARGV: how many entries and how many ids it keeps; four a letter
local now = redis.call('TIME')
local score = now[1] * 1000000 + now[2]
local remembered = tonumber(ARGV[2])
for n = 3, #ARGV, 4 do
    if remembered == 0 or not redis.call('ZSCORE', KEYS[2], ARGV[n]) then
        redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*',
            'id', ARGV[n], 'kind', ARGV[n + 1], 'about', ARGV[n + 2], 'body', ARGV[n + 3])
        if remembered > 0 then
            redis.call('ZADD', KEYS[2], score, ARGV[n])
        end
    end
end
if remembered > 0 then
    redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -(remembered + 1))
end
return 1
"""


class Redis(Remote):
    """One entry a document, with the fields `id`, `kind`, `about` (what it tells of: the latest entry about it counts)
    and `body` (JSON).

    What comes again is left out by the server, in the same step that adds an entry, as long as its id is among the last
    `remember` ones. How long an entry outlives the server's death is the server's: `appendfsync` says so.
    """

    url: str = Field(
        "redis://127.0.0.1:6379/0", repr=False, description="redis://, rediss:// (TLS) or unix:// of the server"
    )
    key: str = Field(
        "thresher:{kind}", min_length=1, description="key of a stream; {kind} is results, events …, {stream} the stream"
    )
    max_entries: int = Field(
        1_000_000, ge=1, le=10**12, description="about how many entries a stream keeps; the oldest go"
    )
    remember: int = Field(
        10_000, ge=0, le=10**8, description="how many ids a stream knows again; 0: whatever comes again is added again"
    )
    ca_file: str = Field("", description="with rediss://, PEM file of the authorities to trust")

    def model_post_init(self, _context: object) -> None:
        remember_url(self.url)

    def check(self) -> None:
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme in _SCHEMES and (parts.scheme == "unix" or bool(parts.hostname))
            sound = (
                sound and parts.port != 0 and (parts.scheme == "unix" or _DATABASE.fullmatch(parts.path) is not None)
            )
        except ValueError:
            sound = False
        if not sound:
            raise InputError("should be a URL like redis://host:6379/0", "url")
        try:
            if parts.scheme != "unix":
                reach.check(unquote(parts.hostname or ""), private=True)
        except reach.OutOfReachError as error:
            raise InputError(redact(error), "url") from None
        if self.ca_file and parts.scheme != "rediss":
            raise InputError("is for TLS: let the URL begin with rediss://", "ca_file")
        if self.ca_file and not os.path.isfile(os.path.expanduser(self.ca_file)):
            raise InputError("there is no such file", "ca_file")
        filled(self.key, "key", Letter("", "outcome", "", "", b""))
        _library()

    def connect(self, name: str) -> Courier:
        remember_url(self.url)  # again: this may be another process
        self.check()
        return _Courier(self)


class _Courier:
    most = 256

    def __init__(self, plan: Redis) -> None:
        redis = _library()
        parts = urlsplit(plan.url)
        self._plan = plan
        self._where = f"{parts.scheme}://{parts.hostname or parts.path}" + (f":{parts.port}" if parts.port else "")
        self._errors = redis.RedisError
        self._answer_errors = redis.ResponseError
        self._arrivals = Arrivals()
        self._largest: int | None = None
        self._closed = False
        options: dict[str, Any] = {"ssl_ca_certs": os.path.expanduser(plan.ca_file)} if plan.ca_file else {}
        if parts.scheme != "unix":
            from sinks.redis_connections import Checked, CheckedTls

            options["connection_class"] = CheckedTls if parts.scheme == "rediss" else Checked
        try:
            self._client = redis.Redis.from_url(
                plan.url,
                socket_connect_timeout=BEGIN_S,
                socket_timeout=ANSWER_S - BEGIN_S,
                retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),  # the engine tries again
                **options,
            )
            pool = self._client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # a word behind the URL's ? that it does not know
        except (ValueError, TypeError, redis.RedisError):
            raise InputError("is not a URL of a Redis server: redis://host:6379/0", "url") from None
        self._add = self._client.register_script(_ADD)

    def send(self, letters: Sequence[Letter]) -> int:
        if self._closed:
            raise SinkBusy(f"{self._where}: closed")
        arrived: set[str] = set()
        missing = self._arrivals.missing(letters)
        try:
            largest = self._most_bytes()
            fit = [letter for letter in missing if len(letter.body) < largest]
            if letters[0] in missing and letters[0] not in fit:
                raise SinkRefused(f"{len(letters[0].body)} bytes are more than {self._where} takes ({largest})")
            self._put(fit)
            arrived.update(letter.id for letter in fit)
        except self._answer_errors as error:
            text = redact(error)
            if len(missing) == 1 and any(words in text.lower() for words in _BLAMED_ON_IT):
                raise SinkRefused(f"{self._where}: {text}") from None
            raise SinkBusy(f"{self._where}: {text}") from None
        except (self._errors, OSError) as error:
            self._largest = None  # it may be another server next time
            raise SinkBusy(f"{self._where}: {redact(error) or type(error).__name__}") from None
        return self._arrivals.settle(letters, arrived)

    def _put(self, letters: Sequence[Letter]) -> None:
        by_key: dict[str, list[Letter]] = {}
        for letter in letters:
            by_key.setdefault(filled(self._plan.key, "key", letter), []).append(letter)
        with self._client.pipeline(transaction=False) as pipe:
            for key, some in by_key.items():
                # the braces keep the two on one node of a cluster
                names = [key, f"{key}:ids" if "{" in key else f"{{{key}}}:ids"]
                arguments: list[bytes | int | str] = [self._plan.max_entries, self._plan.remember]
                for letter in some:
                    arguments += [raw(letter.id), letter.kind, raw(letter.about), letter.body]
                self._add(names, arguments, client=pipe)
            pipe.execute()

    def _most_bytes(self) -> int:
        """Of one value. What is longer breaks the connection, and nobody would know which letter did it."""
        if self._largest is None:
            try:
                told = self._client.config_get("proto-max-bulk-len")
                self._largest = int(told.get("proto-max-bulk-len", _LARGEST))
            except self._answer_errors:  # not everybody may ask
                self._largest = _LARGEST
        return self._largest

    def close(self) -> None:
        self._closed = True
        self._client.close()


def _library() -> Any:
    try:
        import redis
        import redis.backoff
        import redis.retry
    except ImportError:
        raise MissingPart("needs the package redis: pip install 'thresher[redis]'") from None
    return redis
