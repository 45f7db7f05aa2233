from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from standardwebhooks.webhooks import Webhook as Reference

from pipeline.core import reach
from pipeline.core.errors import InputError, SinkBusy, SinkRefused
from pipeline.core.letters import Letter, letter_of
from pipeline.core.reach import NetworkSettings
from sinks.webhook import Webhook
from sinks.webhook_posting import Poster
from tests.contracts.names import certificate, leads
from tests.contracts.remote_suite import LETTERS, LONGEST_S, PinningSuite, Word, deliver, many
from tests.contracts.sink_suite import event, person, result
from tests.sinks.servers import Server

pytestmark = pytest.mark.slow

SECRET = "whsec_c2VjcmV0LXRoYXQtaXMtbG9uZy1lbm91Z2g="
OLD = "whsec_YW5vdGhlci1zZWNyZXQtdGhhdC1pcy1vbGQ="
PASSWORD = "h00kpw-7"


class Receiver(Server):
    def command(self) -> list[str]:
        script = str(Path(__file__).with_name("hook_receiver.py"))
        return [sys.executable, script, str(self.port), "received.jsonl", SECRET]

    def received(self, path: str) -> list[dict[str, Any]]:
        file = self.folder / "received.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [post for post in map(json.loads, lines) if post["path"] == path]


@pytest.fixture(autouse=True)
def _receivers_are_here() -> Iterator[None]:
    with reach.using(NetworkSettings(private=True)):
        yield


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


class TestWebhook(PinningSuite):
    kind = "webhook"
    said_at = "url"
    secrets = (SECRET, SECRET.removeprefix("whsec_"), PASSWORD, "tokenpath")

    @pytest.fixture(autouse=True)
    def _server(self, receiver: Receiver) -> Iterator[None]:
        self.server: Receiver = receiver
        receiver.well()
        yield
        receiver.well()

    @property
    def path(self) -> str:
        return f"/{self.space}/tokenpath"

    def plan(self, port: int | None = None) -> Webhook:
        url = f"http://me:{PASSWORD}@{self.host}:{port or self.server.port}{self.path}"
        return Webhook(url=url, secrets=(OLD, SECRET))

    def words(self) -> list[Word]:
        posts = self.server.received(self.path)
        assert all(post["id"].isascii() and post["id"].isprintable() for post in posts)
        assert not any(forbidden in post["id"] for post in posts for forbidden in " .")
        return [
            Word(unquote(post["id"]), post["body"].get("stream") or post["body"]["show"], post["body"])
            for post in posts
        ]

    def poisoned(self) -> Letter:
        return Letter("door/e/bad:1", "outcome", "door/e/bad", "door", b'"' + b"x" * 200_000 + b'"')


class TestBatches(TestWebhook):
    """Several documents a POST: a receiver goes by what they say of themselves."""

    def plan(self, port: int | None = None) -> Webhook:
        return super().plan(port).model_copy(update={"batch": 7, "concurrency": 3})

    def words(self) -> list[Word]:
        documents = [document for post in self.server.received(self.path) for document in post["body"]]
        return [
            Word(json.dumps(document), document.get("stream") or document["show"], document) for document in documents
        ]

    def name_of(self, letter: Letter) -> str:
        return json.dumps(letter.document)

    def test_a_batch_has_an_id_by_its_letters(self) -> None:
        for _ in range(2):
            courier = self.connect()
            deliver(courier, many(7, streams=("door",)))
            courier.close()
        first, second = self.server.received(self.path)
        assert first == second and len(first["body"]) == 7
        courier = self.connect()
        deliver(courier, many(7, 1, streams=("door",)))
        courier.close()
        assert self.server.received(self.path)[-1]["id"] != first["id"]


Answer = Callable[[BaseHTTPRequestHandler, bytes], tuple[int, dict[str, str], bytes]]


@contextmanager
def answering(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that answers so; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            status, headers, body = answer(self, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *_: Any) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}/hook"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def courier(url: str, **settings: Any) -> Iterator[Poster]:
    made = Webhook(url=url, **settings).connect("out")
    assert isinstance(made, Poster)
    yield made
    made.close()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_what_may_pass_is_busy(status: int) -> None:
    with answering(lambda *_: (status, {}, b"")) as url, courier(url) as out:
        with pytest.raises(SinkBusy, match=f"answered {status}"):
            out.send(many(3))
        with pytest.raises(SinkBusy, match=f"answered {status}"):
            out.send(many(3))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_what_does_not_pass_is_refused_with_the_receivers_words(status: int) -> None:
    with answering(lambda *_: (status, {}, b"no \x1b[31m such\nthing")) as url, courier(url) as out:
        with pytest.raises(SinkRefused, match=f"answered {status}: no \\[31m such thing$"):
            out.send(many(3))
        with pytest.raises(SinkRefused):
            out.send(many(3))


def test_redirects_are_not_followed() -> None:
    asked: list[str] = []

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append(request.path)
        return 307, {"Location": "/elsewhere"}, b""

    with answering(answer) as url, courier(url) as out, pytest.raises(SinkRefused, match="redirects are not followed"):
        out.send(many(1))
    assert asked == ["/hook"]


def test_retry_after_is_kept_to() -> None:
    asked: list[float] = []

    def answer(*_: Any) -> tuple[int, dict[str, str], bytes]:
        asked.append(time.monotonic())
        return (429, {"Retry-After": "1"}, b"") if len(asked) == 1 else (204, {}, b"")

    with answering(answer) as url, courier(url) as out:
        deliver(out, many(1))
        assert len(asked) == 2 and asked[1] - asked[0] >= 1.0


@pytest.mark.parametrize("words", ["soon", "-5", "1e999", "Mon, 99 Foo 2026", "Sat, 01 Jan 2000 00:00:00 GMT"])
def test_a_retry_after_that_says_nothing_is_no_pause(words: str) -> None:
    answers = iter([(503, {"Retry-After": words}, b""), (204, {}, b"")])
    with answering(lambda *_: next(answers)) as url, courier(url) as out:
        with pytest.raises(SinkBusy):
            out.send(many(1))
        assert out.send(many(1)) == 1


def test_one_stream_that_is_refused_holds_up_no_other() -> None:
    def answer(_: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        stream = json.loads(body)["stream"]
        seen.append(stream)
        return (503, {}, b"") if stream == "door" and len(seen) < 10 else (204, {}, b"")

    seen: list[str] = []
    with answering(answer) as url, courier(url, concurrency=64) as out:
        letters = many(12, streams=("gate", "door"))
        assert out.send(letters) == 1  # the first of the gate; the first of the door did not arrive
        assert seen.count("gate") == 6
        deliver(out, letters[1:])
    assert seen.count("gate") == 6  # what had arrived beyond it was not sent again


def test_a_connection_is_used_again_and_a_stale_one_costs_nothing() -> None:
    ports: list[int] = []

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, dict[str, str], bytes]:
        ports.append(request.client_address[1])
        if len(ports) == 5:
            request.close_connection = True  # without a word of it: the receiver had enough of it
        return 204, {}, b""

    with answering(answer) as url, courier(url) as out:
        assert out.send(many(5, streams=("door",))) == 5
        time.sleep(0.1)
        assert out.send(many(1, streams=("door",))) == 1
    assert len(set(ports[:5])) == 1 and len(ports) == 6


def test_every_secret_that_is_valid_signs(receiver: Receiver) -> None:
    received: list[tuple[bytes, dict[str, str]]] = []

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        received.append((body, dict(request.headers)))
        return 204, {}, b""

    with answering(answer) as url:
        with courier(url, secrets=[OLD, SECRET], headers={"Authorization": "Bearer t0k3n"}) as out:
            deliver(out, LETTERS)
        with courier(url) as out:
            deliver(out, many(1))
    *signed, unsigned = received
    assert len(signed) == len(LETTERS)
    for body, headers in signed:
        for secret in (OLD, SECRET):
            assert Reference(secret).verify(body, headers) == json.loads(body)
        assert headers["Authorization"] == "Bearer t0k3n"
    assert "webhook-signature" not in unsigned[1]


def test_tls_is_verified_and_an_authority_of_ones_own_can_be_given(tmp_path: Path) -> None:
    pair = certificate(tmp_path, "localhost")
    with answering(lambda *_: (204, {}, b""), pair.context()) as url:
        named = url.replace("127.0.0.1", "localhost")
        with courier(named) as out, pytest.raises(SinkBusy, match=r"(?i)certificate"):
            out.send(many(1))
        with courier(url, ca_file=str(pair.file)) as out, pytest.raises(SinkBusy, match=r"(?i)certificate"):
            out.send(many(1))  # another name than the certificate's
        with courier(named, ca_file=str(pair.file)) as out:
            assert out.send(many(1)) == 1
    with pytest.raises(InputError, match="ca_file"):
        Webhook(url=named, ca_file=str(pair.key)).check()
    with pytest.raises(InputError, match="ca_file"):
        Webhook(url=named, ca_file=str(tmp_path / "nothing.pem")).check()


def test_a_receiver_that_echoes_what_it_was_told_gives_no_secret_away() -> None:
    def answer(request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, dict[str, str], bytes]:
        return 400, {}, str(request.headers).encode()

    with answering(answer) as url, courier(url, headers={"X-Api-Key": "k3y-of-mine"}) as out:
        with pytest.raises(SinkRefused) as refused:
            out.send(many(1))
        assert "k3y-of-mine" not in str(refused.value)


def test_a_receiver_that_never_stops_answering_is_cut_off() -> None:
    def answer(request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, dict[str, str], bytes]:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            request.wfile.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    with answering(answer) as url, courier(url) as out:
        assert out.send(many(1)) == 1  # it said that it has it


def test_a_receiver_that_dribbles_is_busy_in_time() -> None:
    def answer(request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, dict[str, str], bytes]:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            request.wfile.write(b"x")
            time.sleep(0.2)

    with answering(answer) as url, courier(url) as out:
        begun = time.monotonic()
        with pytest.raises(SinkBusy, match="no answer in time"):
            out.send(many(3))
        assert time.monotonic() - begun < LONGEST_S


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"url": "ftp://host/x"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "https://host:99999/"}, "url"),
        ({"url": "https://host:0/"}, "url"),
        ({"url": "https://[2606:4700::1111]x/"}, "url"),
        ({"url": "https://a..b/"}, "url"),
        ({"url": "https://ho st/"}, "url"),
        ({"ca_file": "~nobody-of-this-name/x.pem"}, "ca_file"),
        ({"url": "https://host/\r\nX: y"}, "url"),
        ({"secrets": "whsec_short"}, "secrets"),
        ({"secrets": ["topsecretvalue" * 4]}, "secrets"),
        ({"headers": {"X-A": "b\r\nEvil: c"}}, "headers.X-A"),
        ({"headers": {"Bad Name": "b"}}, "headers.Bad Name"),
        ({"headers": {"Webhook-Id": "b"}}, "headers.Webhook-Id"),
        ({"headers": {"host": "b"}}, "headers.host"),
    ],
)
def test_mistakes_are_named_without_what_is_secret(settings: dict[str, Any], place: str) -> None:
    plan = Webhook(**{"url": "https://example.org/hook"} | settings)
    for step in (plan.check, lambda: plan.connect("out")):
        with pytest.raises(InputError) as caught:
            step()
        assert caught.value.place == place
        assert "topsecretvalue" not in str(caught.value)


def test_a_receiver_that_says_the_path_gives_nothing_away() -> None:
    path = "/services/T0123/pl4nted-path-of-a-hook?id=pl4nted-value-of-a-word"
    with answering(lambda request, _: (410, {}, f"no {request.path}".encode())) as url, courier(url + path) as out:
        with pytest.raises(SinkRefused, match=r"answered 410: no /hook/services/T0123/\*\*\*\?id=\*\*\*$") as caught:
            out.send(many(1))
        assert "pl4nted" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "[::1]", "2130706433", "0x7f.1", "１２７.0.0.1"])
def test_private_networks_are_out_of_reach_unless_the_config_says_so(host: str) -> None:
    with reach.using(NetworkSettings()), pytest.raises(InputError, match=r"out of reach|no plain spelling") as caught:
        Webhook(url=f"http://{host}:8080/hook").check()
    assert caught.value.place == "url"


def test_a_name_of_this_machine_is_not_followed_unless_the_config_says_so() -> None:
    with answering(lambda *_: (204, {}, b"")) as url:
        named = url.replace("127.0.0.1", "localhost")
        with reach.using(NetworkSettings()), courier(named) as out, pytest.raises(SinkBusy, match="private: true"):
            out.send(many(1))
        with courier(named) as out:
            assert out.send(many(1)) == 1


def test_the_receiver_is_told_the_name_that_the_url_has(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, dict[str, str], bytes]:
        told.append(request.headers["Host"])
        return 204, {}, b""

    leads(monkeypatch, "hooks.test", "127.0.0.1")
    with answering(answer) as url, courier(url.replace("127.0.0.1", "hooks.test")) as out:
        assert out.send(many(1)) == 1
        assert told == [url.replace("127.0.0.1", "hooks.test").split("/")[2]]


def test_what_is_wanted_can_be_chosen() -> None:
    plan = Webhook(url="https://example.org", outcomes="flagged", rulings=False)
    assert [plan.wants(item) for item in (result(0), result(1, person()), event())] == [False, True, True]
    assert letter_of(event()).id != letter_of(event("end")).id
