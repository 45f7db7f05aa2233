"""The running part of the webhook sink: several connections, taken care of by the thread that calls `send`."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING
from zlib import crc32

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from pipeline.core import reach
from pipeline.core.errors import InputError, SinkBusy, SinkRefused, let_go
from pipeline.core.letters import Letter
from pipeline.core.secrets import redact
from sinks.sending import ANSWER_S, BEGIN_S, Arrivals, raw, token
from sinks.signing import signed

if TYPE_CHECKING:
    from sinks.webhook import Webhook

_LATER = frozenset({408, 425, 429})
_LONGEST_WAIT_S = 300.0  # whatever `Retry-After` says: a receiver that is back is not left alone for days
_MOST_READ = 65_536  # bytes of an answer; a longer one costs the connection
_MOST_SHOWN = 200
_LONGEST_ID = 200


class Poster:
    """A stream's letters go over one of the lanes, one POST after the other; lanes do not wait for each other."""

    most = 256

    def __init__(self, plan: Webhook) -> None:
        parts = plan.parts()
        self._plan = plan
        self._keys = plan.keys()
        self._tls = plan.tls() if parts.scheme == "https" else None
        self._host, self._port = str(parts.hostname), parts.port or (443 if self._tls else 80)
        self._origin = f"{parts.scheme}://{self._host}:{self._port}"
        self._url = URL(plan.url)
        try:  # as aiohttp spells it: of addresses, it asks nobody
            reach.check(self._url.raw_host or "", private=False)
        except reach.OutOfReachError as error:
            raise InputError(redact(error), "url") from None
        self._headers = {**plan.headers, "Content-Type": "application/json"}
        self._headers.setdefault("User-Agent", "thresher")
        self._arrivals = Arrivals()
        self._not_before = 0.0
        self._runner: asyncio.Runner | None = asyncio.Runner()
        self._session: aiohttp.ClientSession | None = None

    def send(self, letters: Sequence[Letter]) -> int:
        if self._runner is None:
            raise SinkBusy(f"{self._origin}: closed")
        if (left := self._not_before - time.monotonic()) > 0:
            raise SinkBusy(f"{self._origin} asked for a pause; {left:.0f} s of it are left")
        return self._runner.run(self._send(letters))

    async def _send(self, letters: Sequence[Letter]) -> int:
        session = await self._ready()
        until = time.monotonic() + BEGIN_S
        lanes: dict[int, list[Letter]] = {}
        for letter in self._arrivals.missing(letters):
            lanes.setdefault(self._lane_of(letter), []).append(letter)
        arrived: set[str] = set()
        ends = await asyncio.gather(*(self._lane(session, lane, arrived, until) for lane in lanes.values()))
        count = self._arrivals.settle(letters, arrived)
        if count:
            return count
        # the first letter has not arrived, so it is the one at which its lane came to an end
        trouble = dict(zip(lanes, ends, strict=True)).get(self._lane_of(letters[0]))
        raise trouble or SinkBusy(f"{self._origin}: no answer in time")

    def _lane_of(self, letter: Letter) -> int:
        return crc32(raw(letter.stream)) % self._plan.concurrency

    async def _lane(
        self, session: aiohttp.ClientSession, letters: list[Letter], arrived: set[str], until: float
    ) -> SinkBusy | SinkRefused | None:
        """Post `letters` in order, and name those that arrived. What it comes to an end at is returned."""
        step, n = self._plan.batch, 0
        while n < len(letters) and (n == 0 or time.monotonic() < until):
            some = letters[n : n + step]
            try:
                await self._post(session, some)
            except SinkRefused as refusal:
                let_go(refusal)
                if len(some) == 1:
                    return refusal
                step = 1  # one of them may be to blame for all: from here on, each is asked about by itself
                if time.monotonic() >= until:  # …and that begins next time
                    return SinkBusy(str(refusal))
                continue
            except SinkBusy as trouble:
                let_go(trouble)
                return trouble
            arrived.update(letter.id for letter in some)
            n += len(some)
        return None

    async def _post(self, session: aiohttp.ClientSession, letters: Sequence[Letter]) -> None:
        """Returns once the receiver has said that it has them. Raises `SinkBusy` or `SinkRefused`."""
        if self._plan.batch == 1:
            name, body = _header_id(letters[0].id), letters[0].body
        else:
            name = sha256(b"\n".join(raw(letter.id) for letter in letters)).hexdigest()
            body = b"[" + b",".join(letter.body for letter in letters) + b"]"
        try:
            async with asyncio.timeout(ANSWER_S):
                try:
                    await self._ask(session, name, body)
                except aiohttp.ServerDisconnectedError:
                    await self._ask(session, name, body)  # it had been idle for longer than the receiver likes
        except TimeoutError:
            raise SinkBusy(f"{self._origin}: no answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = error.os_error if isinstance(error, aiohttp.ClientConnectorDNSError) else error
            what = str(why).replace(str(self._url), self._origin).replace(self._plan.url, self._origin)
            raise SinkBusy(f"{self._origin}: {redact(what)[:_MOST_SHOWN] or type(error).__name__}") from None

    async def _ask(self, session: aiohttp.ClientSession, name: str, body: bytes) -> None:
        headers = self._headers | signed(self._keys, name, body, int(time.time()))
        async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
            self._judge(answer, await _beginning(answer))

    def _judge(self, answer: aiohttp.ClientResponse, text: str) -> None:
        status = answer.status
        if 200 <= status < 300:
            return
        said = f"{self._origin} answered {status}" + (f": {text}" if text else "")
        if status in _LATER or status >= 500 or status < 200:
            self._not_before = time.monotonic() + _pause(answer.headers.get("Retry-After", ""))
            raise SinkBusy(said)
        if 300 <= status < 400:
            raise SinkRefused(f"{self._origin} answered {status}: redirects are not followed, give the final url")
        raise SinkRefused(said)

    async def _ready(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0, ssl=True if self._tls is None else self._tls, resolver=_Resolver(), use_dns_cache=False
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(),
                auto_decompress=False,
            )
        await asyncio.sleep(0.0)  # connections that were closed since the last time are noticed
        await asyncio.sleep(0.0)
        return self._session

    def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            try:
                if self._session is not None:
                    runner.run(self._session.close())
            finally:
                runner.close()


class _Resolver(AbstractResolver):
    """aiohttp connects to just these addresses. (It asks for names only.)"""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        ask = partial(reach.pinned, host, port, private=False)
        found = dict.fromkeys(
            (place.family, place.host) for place in await asyncio.get_running_loop().run_in_executor(None, ask)
        )
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, address in found
            if family in {socket.AF_UNSPEC, kind}
        ]

    async def close(self) -> None:
        pass


async def _beginning(answer: aiohttp.ClientResponse) -> str:
    """The first words of what a receiver that is not content says. The body is read to its end where that is near, so
    that the connection can be used again."""
    read = b""
    async for chunk in answer.content.iter_any():
        read += chunk
        if len(read) > _MOST_READ:
            break
    return redact(" ".join(read[: 4 * _MOST_SHOWN].decode("utf-8", "replace").split()))[:_MOST_SHOWN]


def _header_id(name: str) -> str:
    fit = token(name)
    return fit if len(fit) <= _LONGEST_ID else f"{fit[: _LONGEST_ID - 65]}:{sha256(fit.encode()).hexdigest()}"


def _pause(retry_after: str) -> float:
    """In seconds, from a `Retry-After` in seconds or as a date; nothing where it is neither."""
    try:
        seconds = float(retry_after) if retry_after.strip().isdigit() else _until(retry_after)
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_WAIT_S)


def _until(date: str) -> float:
    when = parsedate_to_datetime(date)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - datetime.now(UTC).timestamp()
