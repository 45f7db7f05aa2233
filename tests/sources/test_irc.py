"""Chat: a real IRC server (of the `irc` library), and one by script that speaks as Twitch does."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from irc.server import IRCClient, IRCServer
from pydantic import ValidationError
from talk_parts import Reading, until

from pipeline.core.errors import InputError, SourceLost
from pipeline.core.records import Watermark
from pipeline.core.secrets import redact
from pipeline.core.text import Text
from sources import irc
from sources.irc import Irc
from sources.irc_lines import parse_line, said_by
from tests.contracts import source_suite as suite


def chat(port: int, **options: Any) -> Irc:
    return Irc.model_validate({"server": "127.0.0.1", "port": port, "tls": False, "channels": ["#room"]} | options)


@pytest.fixture
def server() -> Iterator[IRCServer]:
    with IRCServer(("127.0.0.1", 0), IRCClient) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join(5)


@contextmanager
def speaker(server: IRCServer, nick: str) -> Iterator[Callable[[str], None]]:
    with socket.create_connection(server.server_address) as client:
        client.sendall(f"NICK {nick}\r\nUSER {nick} 0 * :x\r\nJOIN #room\r\n".encode())
        until(lambda: nick in server.clients and "#room" in server.clients[nick].channels)
        yield lambda text: client.sendall(f"PRIVMSG #room :{text}\r\n".encode())


@contextmanager
def reading(server: IRCServer, **options: Any) -> Iterator[Reading]:
    port = int(server.server_address[1])
    with closing(Reading(chat(port, nick="watcher", **options).open(suite.STREAM))) as running:
        until(lambda: "watcher" in server.clients and "#room" in server.clients["watcher"].channels)
        yield running


def test_contract(server: IRCServer) -> None:
    plan = chat(int(server.server_address[1]))
    suite.check_plan(plan)
    suite.check_epochs(plan)
    untouched = plan.open(suite.STREAM)
    untouched.close()
    untouched.close()
    assert plan.live and plan.paced and plan.medium == "text"
    with reading(server) as running, speaker(server, "ann") as say:
        for n in range(5):
            say(f"message {n}")
        suite.check_items(running.received(5), received=5)
        time.sleep(0.6)
    assert any(isinstance(item, Watermark) for item in running.items)


def test_a_real_server(server: IRCServer) -> None:
    with reading(server) as running, speaker(server, "ann") as ann, speaker(server, "bob") as bob:
        ann("hello : there")
        running.received(1)
        bob('{"text": "not json here"}')
        running.received(2)
        ann("привет")
        chunks = suite.chunks(running.received(3))
    texts = [chunk.payload for chunk in chunks if isinstance(chunk.payload, Text)]
    assert [(t.raw, t.author, t.room) for t in texts] == [
        ("hello : there", "ann", "#room"),
        ('{"text": "not json here"}', "bob", "#room"),
        ("привет", "ann", "#room"),
    ]
    assert texts[2].author_said == (b"hello : there",) and texts[2].room_said == (b'{"text": "not json here"}',)


def test_a_nick_that_is_taken(server: IRCServer) -> None:
    with speaker(server, "watcher2") as say:
        port = int(server.server_address[1])
        with closing(Reading(chat(port, nick="watcher2").open(suite.STREAM))) as running:
            until(lambda: len(server.channels["#room"].clients) == 2)
            say("hi")
            running.received(1)


@contextmanager
def scripted(*blocks: bytes | float, stay_s: float = 0.0) -> Iterator[tuple[int, list[bytes]]]:
    """A server that lets one client in and sends `blocks`, or pauses; what it heard."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                client, _ = listening.accept()
                with client:
                    client.settimeout(0.1)
                    for block in blocks:
                        if isinstance(block, bytes):
                            client.sendall(block)
                        else:
                            time.sleep(block)
                        with suppress(TimeoutError):
                            heard.append(client.recv(65536))
                    time.sleep(stay_s)
                    client.shutdown(socket.SHUT_WR)
                    client.settimeout(2)
                    while rest := client.recv(65536):  # or else what it has not read yet would be lost to it
                        heard.append(rest)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1], heard
        thread.join(10)


WELCOME = b":tmi.twitch.tv 001 x :Welcome, GLHF!\r\n"
TAGGED = (
    b"@badges=;display-name=Ann\\sB;tmi-sent-ts=1769860800500;user-id=1 :ann!ann@ann.tmi.twitch.tv PRIVMSG #Room"
    b" :so 100% good\r\n"
)


def ended(running: Reading) -> Exception | None:
    until(lambda: running.error)
    return running.error


def test_twitch_speaks() -> None:
    blocks = (
        WELCOME,
        b"PING :tmi.twitch.tv\r\n",
        TAGGED[:40],
        TAGGED[40:] + b":bob!b@c PRIVMSG #room :\x01ACTION waves\x01\r\n:bob!b@c PRIVMSG #room :\x01VERSION\x01\r\n",
        b":bob!b@c PRIVMSG #room :\xff\xfe\r\n:bob!b@c PRIVMSG watcher :in private\r\n\xff\r\n",
        b":bob!b@c PRIVMSG #room :" + b"x" * 10_000_000 + b"\r\n",
        b":bob!b@c PRIVMSG #room :last\r\n:tmi.twitch.tv RECONNECT\r\n",
    )
    with scripted(*blocks) as (port, heard):
        plan = chat(port, password="oauth:s3cret", channels=["room", "#other"])
        with closing(Reading(plan.open(suite.STREAM))) as running:
            assert isinstance(ended(running), SourceLost) and "connect again" in str(running.error)
    sent = b"".join(heard)
    assert b"PASS oauth:s3cret\r\n" in sent and b"PONG :tmi.twitch.tv\r\n" in sent
    assert b"JOIN #room\r\n" in sent and b"JOIN #other\r\n" in sent
    assert running.said == ["so 100% good", "waves", "last"] and suite.gaps(running.items, "damaged") == 2
    first = suite.chunks(running.items)[0]
    assert isinstance(first.payload, Text)
    assert (first.payload.author, first.payload.room) == ("Ann B", "#room")
    assert first.wall_ns == 1_769_860_800_500_000_000
    assert "s3cret" not in repr(plan) and redact("oauth:s3cret") == "***"


@pytest.mark.parametrize(
    ("block", "kind", "said"),
    [
        (b":h NOTICE * :Login authentication failed\r\n", InputError, "refuses the password"),
        (b":h 464 * :Password incorrect\r\n", InputError, "refuses the password"),
        (WELCOME + b"ERROR :Closing link\r\n", SourceLost, "Closing link"),
        (WELCOME, SourceLost, "closed the connection"),
        (b":h 433 * x :Nickname is already in use\r\n" * 4, SourceLost, "is taken"),
        (WELCOME + b":h 474 x #Room :Cannot join channel (+b)\r\n", InputError, "into #Room: Cannot join"),
        (WELCOME + b":h 403 x #room :No such channel\r\n", InputError, "No such channel"),
        (WELCOME + b":h 471 x #room :Cannot join channel (+l)\r\n", SourceLost, "Cannot join channel (+l)"),
    ],
    ids=["notice", "464", "error", "end", "nick", "banned", "none", "full"],
)
def test_how_it_ends(block: bytes, kind: type[Exception], said: str) -> None:
    with scripted(block) as (port, _), closing(Reading(chat(port).open(suite.STREAM))) as running:
        assert isinstance(ended(running), kind) and said in str(running.error)


def test_a_channel_that_is_shut_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    blocks = (WELCOME, b":h 473 x #b :Cannot join channel (+i)\r\n", b":ann!a@h PRIVMSG #a :hi\r\n")
    with scripted(*blocks) as (port, _), closing(Reading(chat(port, channels=["a", "b"]).open("x"))) as running:
        assert isinstance(ended(running), SourceLost)
    assert running.said == ["hi"] and "into #b: Cannot join channel (+i)" in caplog.text


@pytest.mark.parametrize("apart", [False, True], ids=["whole", "in parts"])
def test_what_the_server_says_at_length_is_no_damaged_message(apart: bool) -> None:
    notices = b":h 372 x :" + b"n" * 30_000 + b"\r\n", b":h NOTICE x :see PRIVMSG there \xff PRIVMSG \xff\r\n"
    long = b":bob!b@c PRIVMSG #room :" + b"m" * 30_000 + b"\r\n"
    blocks = [WELCOME, *notices, long, TAGGED]
    cut = [part for block in blocks for part in ((block[:20_000], block[20_000:]) if apart else (block,)) if part]
    with scripted(*cut) as (port, _), closing(Reading(chat(port).open("x"))) as running:
        assert isinstance(ended(running), SourceLost)
    assert running.said == ["so 100% good"] and suite.gaps(running.items, "damaged") == 1


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(b"", stay_s=2) as (port, _), closing(Reading(chat(port, connect_s=0.5).open("x"))) as running:
        assert "let us in in time" in str(ended(running))
    monkeypatch.setattr(irc, "_PING_S", 0.6)
    with scripted(WELCOME, stay_s=2) as (port, heard), closing(Reading(chat(port).open("x"))) as running:
        assert "does not answer" in str(ended(running))
    assert b"PING :" in b"".join(heard)


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(SourceLost, match="cannot connect"):
            chat(free.getsockname()[1]).open("x")
    with scripted(b"no tls here\r\n") as (port, _), pytest.raises(SourceLost, match="cannot connect"):
        chat(port, tls=True).open("x")


@pytest.mark.parametrize(
    "options",
    [
        {"channels": []},
        {"channels": ["a b"]},
        {"channels": ["#a\r\nQUIT"]},
        {"nick": "a\nb"},
        {"server": "a b"},
        {"password": "a\r\nQUIT"},
        {"server": "irc.example.org", "password": "secret"},
    ],
    ids=json.dumps,
)
def test_settings_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        chat(1, **options)


@given(st.text())
def test_any_line_can_be_read(text: str) -> None:
    line = parse_line(text)
    if line is not None:
        said_by(line)
    for start in (f"@{text} ", f":{text} ", "@time=x;display-name= "):
        line = parse_line(f"{start}PRIVMSG #r :{text}")
        if line is not None:
            said_by(line)


def test_lines() -> None:
    line = parse_line("@a=b\\:c\\sd\\\\;e;f=\\x\\ :nick!user@host PRIVMSG #r word :last : one\r\n")
    assert line is not None and line.tags == {"a": "b;c d\\", "e": "", "f": "x"}
    assert (line.nick, line.command, line.words) == ("nick", "PRIVMSG", ["#r", "word", "last : one"])
    assert parse_line("") is None and parse_line(":x") is None
    assert pickle.loads(pickle.dumps(line)) == line
