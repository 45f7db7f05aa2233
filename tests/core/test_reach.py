"""Where this program may connect to. Names that lead astray are made by a name service of the test's own."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.core import reach
from pipeline.core.reach import NetworkSettings, OutOfReachError


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    yield
    reach.use(NetworkSettings())


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """The addresses that each name has, the first time it is asked for, the second time, …"""
    known: dict[str, list[list[str]]] = {}
    real = socket.getaddrinfo

    def asked(host: str, port: int, *given: Any, **named: Any) -> Any:
        if host not in known:
            return real(host, port, *given, **named)
        answers = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        return [entry for address in answers for entry in real(address, port, *given, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    return known


NEVER = [
    *("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%lo", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"),
    *("192.0.0.192", "224.0.0.1", "239.1.2.3", "ff02::1", "0.0.0.0", "0.1.2.3", "::", "255.255.255.255", "240.0.0.1"),
    *(
        "fec0::1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::127.0.0.1",
        "64:ff9b::8.8.8.8",
        "2002:7f00:1::",
        "2001:0:1::1",
    ),
    *("2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.1", "0", "127.0.0.1.", "１２７.0.0.1"),
]


@pytest.mark.parametrize("host", NEVER)
def test_what_nobody_may_reach(host: str) -> None:
    reach.use(NetworkSettings(private=True, allow=("0.0.0.0/0", "::/0")))
    with pytest.raises(OutOfReachError):
        reach.check(host, private=True)
    with pytest.raises(OutOfReachError):
        reach.pinned(host, 80, private=True)


@pytest.mark.parametrize("host", ["a..b", ".", "a" * 64, "abc." * 70 + "org"])
def test_what_is_no_name_is_known_without_asking(host: str) -> None:
    with pytest.raises(OutOfReachError, match="is no host name"):
        reach.check(host, private=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.5", "100.64.0.1", "fd12::1"])
def test_private_networks_by_direction_and_by_config(host: str) -> None:
    assert [place.host for place in reach.pinned(host, 80, private=True)] == [host]
    with pytest.raises(OutOfReachError, match="private: true"):
        reach.pinned(host, 80, private=False)
    reach.use(NetworkSettings(private=True))
    assert reach.pinned(host, 80, private=False)
    reach.use(NetworkSettings(private=False))
    with pytest.raises(OutOfReachError):
        reach.pinned(host, 80, private=True)


def test_the_public_internet_is_open() -> None:
    for host in ("8.8.8.8", "2606:4700::1111", "[2606:4700::1111]"):
        assert reach.pinned(host, 443, private=False)[0].host == host.strip("[]")


def test_lists(names: dict[str, list[list[str]]]) -> None:
    names |= {"cam.example.org": [["10.1.0.5"]], "evil.test": [["10.1.0.5"]], "other.test": [["10.2.0.5"]]}
    reach.use(NetworkSettings(allow=("10.1.0.0/16", "*.example.org"), deny=("evil.test", "10.1.0.9")))
    assert reach.pinned("cam.example.org", 80, private=False)[0].host == "10.1.0.5"  # named, so it may be private
    assert reach.pinned("10.1.0.5", 80, private=False)
    for host, why in (("evil.test", "deny"), ("10.1.0.9", "deny"), ("other.test", "allow"), ("8.8.8.8", "allow")):
        with pytest.raises(OutOfReachError, match=why):
            reach.pinned(host, 80, private=True)
    with pytest.raises(OutOfReachError, match="deny"):
        reach.check("EVIL.test.", private=True)


def test_each_address_of_a_name_is_looked_at(names: dict[str, list[list[str]]]) -> None:
    names |= {"mixed.test": [["169.254.169.254", "8.8.8.8", "10.0.0.1"]], "bad.test": [["fe80::1", "169.254.1.1"]]}
    assert [place.host for place in reach.pinned("mixed.test", 80, private=False)] == ["8.8.8.8"]
    with pytest.raises(OutOfReachError, match=r"bad\.test"):
        reach.pinned("bad.test", 80, private=True)


@pytest.fixture
def here() -> Iterator[int]:
    """A server on this machine, which a name that leads elsewhere the second time would lead to."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.headers["Host"].encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_name_that_leads_elsewhere_a_moment_later(names: dict[str, list[list[str]]], here: int) -> None:
    """It is asked for once. Where that is good, no later answer is heard; where it is bad, it never comes to one."""
    names["rebound.test"] = [["127.0.0.1"], ["169.254.169.254"]]
    reach.create_connection(("rebound.test", here), 5, private=True).close()
    assert names["rebound.test"] == [["169.254.169.254"]], "asked once"
    names["rebound.test"] = [["169.254.169.254"], ["127.0.0.1"]]
    with pytest.raises(OutOfReachError):
        reach.create_connection(("rebound.test", here), 5, private=True)
    names["rebound.test"] = [["127.0.0.1"], ["169.254.169.254"]]
    asyncio.run(reach.open_socket("rebound.test", here, private=True)).close()


def test_http_keeps_the_name(names: dict[str, list[list[str]]], here: int) -> None:
    from pipeline.core.web import Timeouts, connection, opener

    names["cam.test"] = [["127.0.0.1"]]
    with opener(Timeouts(5, 5), private=True).open(f"http://cam.test:{here}/") as answer:
        assert answer.read() == f"cam.test:{here}".encode()
    kept = connection("http", "cam.test", here, Timeouts(5, 5), private=True)
    kept.request("GET", "/")
    assert kept.getresponse().read() == f"cam.test:{here}".encode()
    kept.close()
    with pytest.raises(OSError, match="private network"):
        opener(Timeouts(5, 5), private=False).open(f"http://cam.test:{here}/")


def test_a_dribbling_head_ends_in_time() -> None:
    from pipeline.core.web import Timeouts, opener

    def dribble(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            try:
                while True:
                    client.send(b"X-A: b\r\n" if told else b"HTTP/1.1 200 OK\r\n")
                    told.append(1)
                    stop.wait(0.1)
            except OSError:
                pass

    told: list[int] = []
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=dribble, args=(listener,))
        thread.start()
        with pytest.raises(TimeoutError):
            opener(Timeouts(0.5, 5), private=True).open(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join(5)


@pytest.mark.parametrize("place", ["10.0.0.1/8", "0x7f.1", "2130706433", "a b", "http://x", "*.*.x", ""])
def test_lists_that_make_no_sense(place: str) -> None:
    with pytest.raises(ValidationError):
        NetworkSettings(allow=(place,))


@given(st.text(max_size=40))
def test_any_text_is_a_host_or_is_refused(host: str) -> None:
    try:
        reach.check(host, private=False)
    except OutOfReachError as error:
        said = str(error)
        assert said.isprintable()


@given(st.ip_addresses())
def test_what_passes_as_public_is(address: Any) -> None:
    try:
        reach.check(str(address), private=False)
    except OutOfReachError:
        return
    assert address.is_global
    assert not (address.is_multicast or address.is_link_local or address.is_loopback or address.is_unspecified)
