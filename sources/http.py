"""Messages that are posted, and questions that are answered at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import Field, PositiveFloat, model_validator

from pipeline.core.records import Chunk, Failed, Item, Outcome, Result, Watermark
from pipeline.core.settings import Listen, address
from sources.conversation import Conversation, Moment, Said, Talk, parsed
from sources.ffmpeg import new_epoch
from sources.http_server import Answer, PostServer, Request
from sources.mailbox import Mailbox
from sources.verdicts import Verdict, joined

log = logging.getLogger(__name__)

MESSAGES, JUDGE = "/messages", "/judge"
_TICK_S = 0.5
_BUDGET_MS = 5000.0
_GRACE_S = 1.0  # what is judged in time may leave a little later
_TEXT = ("application/json", "application/x-ndjson", "application/jsonl", "application/x-www-form-urlencoded",
         "application/octet-stream", "text/")  # fmt: skip
"""What a body may call itself; the form's is what curl says of anything."""


class Http(Conversation):
    """Messages by HTTP.

    `POST /messages` takes one as a JSON object, several as an array or as lines (each plain or an object): 202 with the
    ids of their windows. `POST /judge` takes an object with `text`, perhaps `user` and `room`, and answers with its
    outcome, 200, as sinks have it: that of all its pieces in one. 503 says that there is no room now, or that there was
    no verdict in time; 413 that it is too large, 415 that it is no text, 400 what else is wrong. What was taken in is
    not dropped for want of room, but shed where it is not judged within `latency_budget_ms` (5 s unless you say).
    """

    listen: Listen = Field(
        "127.0.0.1:8080", description="host:port; whoever can reach it can post messages, so stay local"
    )
    max_kb: PositiveFloat = Field(1024, le=65536, description="the largest body that may be posted")
    waiting: int = Field(4096, ge=1, le=65536, description="posted messages that may wait to be taken in")
    connections: int = Field(64, ge=1, le=1024, description="who may be connected at once")

    @model_validator(mode="after")
    def _answers_in_time(self) -> Self:
        if self.latency_budget_ms is None:
            object.__setattr__(self, "latency_budget_ms", _BUDGET_MS)
        return self

    @property
    def answers_at(self) -> str:
        return self.listen

    def open(self, stream: str) -> HttpReader:
        return HttpReader(self, stream)


class HttpReader:
    """The running part. A message arrives when its request was received whole; its place in the stream is the order in
    which that was."""

    paths: ClassVar[Mapping[str, str]] = {JUDGE: "message", MESSAGES: "message"}

    def __init__(self, plan: Http, stream: str) -> None:
        self.epoch = new_epoch()
        self._stream = stream
        self._plan = plan
        self._talk = Talk(plan, stream, self.epoch)
        self._order = threading.Lock()
        self._mailbox: Mailbox[Item] = Mailbox(plan.waiting)
        self._start_ns = time.monotonic_ns()
        assert plan.latency_budget_ms is not None
        self._wait_s = plan.latency_budget_ms / 1e3 + _GRACE_S
        self._reading = False
        self._closed = False
        self._server = PostServer(
            self, address(plan.listen), most_bytes=int(plan.max_kb * 1024), connections=plan.connections
        )
        log.info("%s: post to http://%s:%d%s or %s", stream, *self._server.address, JUDGE, MESSAGES)

    @property
    def port(self) -> int:
        return self._server.address[1]

    # For whoever posts, in a thread of its own.

    def refusal(self, request: Request) -> Answer | None:
        kind = request.headers.get_content_type() if "Content-Type" in request.headers else ""
        if kind and not kind.startswith(_TEXT):
            return Answer(415, {"error": f"{kind[:80]} is no text: send JSON or lines"})
        if not self._reading or not self._mailbox.has_room:
            return _no_room()
        return None

    def receive(self, request: Request, data: bytes) -> Answer:
        now: Moment = time.monotonic_ns(), time.time_ns(), time.monotonic_ns() - self._start_ns
        if request.path == JUDGE:
            return self._judge(data, now)
        return self._take(data, now, request.headers.get("Content-Type", "").startswith("application/json"))

    def _judge(self, data: bytes, now: Moment) -> Answer:
        messages = _parsed(data)
        if messages is None or len(messages) != 1:
            return self._damaged(400, 'send {"text": "…"}, perhaps with "user" and "room"')
        (said,) = messages
        if not self._fits(said):
            return self._damaged(413, f"the text is larger than {self._plan.largest_bytes} bytes")
        settled = threading.Event()
        outcomes: list[Outcome] = []

        def done(all_of_them: Sequence[Outcome]) -> None:
            outcomes.extend(all_of_them)
            settled.set()

        verdict = Verdict(done)
        with self._order:
            if not self._mailbox.has_room:
                return _no_room()
            items = self._talk.said(said, now, verdict)
            self._mailbox.offer(items)
        if not items:
            return Answer(400, {"error": "the text says nothing"})
        verdict.expect(len(items))
        if not settled.wait(self._wait_s):
            return Answer(503, {"error": "there was no verdict in time"})
        return _answer(joined(outcomes), outcomes)

    def _take(self, data: bytes, now: Moment, only_json: bool) -> Answer:
        messages, damaged = self._messages(data, only_json)
        if len(messages) > self._plan.waiting:
            return Answer(413, {"error": f"at most {self._plan.waiting} messages in one request"})
        with self._order:
            if not self._mailbox.has_room:
                return _no_room()
            items = [item for said in messages for item in self._talk.said(said, now)]
            self._mailbox.offer([*items, self._talk.damaged(damaged)] if damaged else items)
        ids = [f"{self._stream}/{self.epoch}/{item.seq}" for item in items if isinstance(item, Chunk)]
        if not ids:
            if damaged and self._is_large(data):
                return Answer(413, {"error": f"a message is larger than {self._plan.largest_bytes} bytes"})
            return Answer(400, {"error": "it is no message that can be read" if damaged else "it says nothing"})
        return Answer(202, {"ids": ids, "damaged": damaged} if damaged else {"ids": ids})

    def _messages(self, data: bytes, only_json: bool) -> tuple[list[Said], int]:
        """What is in a body, and how many messages in it are damaged. JSON may spread over lines."""
        data = data.strip()
        if data[:1] in (b"{", b"[") and self._plan.format != "plain":
            whole = _parsed(data)
            if whole is not None:
                good = [said for said in whole if self._fits(said)]
                return good, len(whole) - len(good)
        parts = [_parsed(line) if only_json else self._talk.read(line) for line in data.split(b"\n") if line.strip()]
        return [said for part in parts if part is not None for said in part], parts.count(None)

    def _is_large(self, data: bytes) -> bool:
        """Whether what was wrong with a body is the size of a message in it."""
        whole = _parsed(data.strip()) if self._plan.format != "plain" else None
        if whole is not None:
            return not all(self._fits(said) for said in whole)
        return any(len(line) > self._plan.largest_bytes for line in data.split(b"\n"))

    def _fits(self, said: Said) -> bool:
        most = self._plan.largest_bytes
        return len(said.text) <= most and len(said.text.encode("utf-8", "replace")) <= most

    def _damaged(self, status: int, reason: str) -> Answer:
        with self._order:
            self._mailbox.offer([self._talk.damaged()])
        return Answer(status, {"error": reason})

    # For the engine.

    def __iter__(self) -> Iterator[Item]:
        self._reading = True
        while not self._closed:
            items = self._mailbox.take(_TICK_S)
            if items:
                yield from items
            else:
                yield Watermark(self._stream, time.monotonic_ns() - self._start_ns)

    def close(self) -> None:
        self._closed = True
        left = self._mailbox.close()
        self._server.close()
        if left:
            log.warning("%s: stopped before %d posted messages were taken in", self._stream, left)


def _parsed(data: bytes) -> list[Said] | None:
    try:
        return parsed(data.decode())
    except UnicodeDecodeError:
        return None


def _no_room() -> Answer:
    return Answer(503, {"error": "there is no room for a message now"})


def _answer(document: dict[str, Any], outcomes: Sequence[Outcome]) -> Answer:
    """Something found is an answer whatever became of the other pieces; else all must have been judged."""
    if any(isinstance(outcome, Result) and outcome.flagged for outcome in outcomes):
        return Answer(200, document)
    if any(isinstance(outcome, Failed) for outcome in outcomes):
        return Answer(500, document | {"error": "it could not be judged"})
    if not all(isinstance(outcome, Result) for outcome in outcomes):
        return Answer(503, document | {"error": f"it was not judged: {document.get('reason', 'shed')}"})
    return Answer(200, document)
