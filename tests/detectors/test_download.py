"""Weights at first use, against a real HTTP server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from detectors.download import fetched
from pipeline.core import reach
from pipeline.core.errors import InputError, MissingPart
from pipeline.core.reach import NetworkSettings

BODY = bytes(range(256)) * 9000  # more than one piece
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/weights.pth":
            self._answer(200, BODY)
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/weights.pth")
            self.end_headers()
        elif self.path == "/metadata":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/weights.pth")
            self.end_headers()
        elif self.path == "/escape":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif self.path == "/circle":
            self.send_response(302)
            self.send_header("Location", "/circle")
            self.end_headers()
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY[:1000])
        else:
            self._answer(404, b"no such file")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.base = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    """The server is on this machine, where nothing is fetched from unless a config says so."""
    reach.use(NetworkSettings(private=True))
    yield
    reach.use(NetworkSettings())


def left_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_it_is_fetched_once(server: Server, cache: Path) -> None:
    first = fetched(f"{server.base}/weights.pth", SHA256, "w.pth")
    again = fetched(f"{server.base}/weights.pth", SHA256, "w.pth")
    assert first == again == cache / "w.pth"
    assert first.read_bytes() == BODY
    assert server.asked == ["/weights.pth"]
    assert left_in(cache) == ["w.pth"]


def test_a_publishers_short_digest_is_enough(server: Server) -> None:
    assert fetched(f"{server.base}/weights.pth", SHA256[:8], "w.pth").read_bytes() == BODY


def test_a_redirect_is_followed(server: Server) -> None:
    assert fetched(f"{server.base}/moved", SHA256, "w.pth").read_bytes() == BODY


@pytest.mark.parametrize("path", ["/escape", "/circle", "/cut", "/missing", "/metadata"])
def test_a_faulty_server_leaves_nothing(server: Server, cache: Path, path: str) -> None:
    with pytest.raises(MissingPart, match="cannot be fetched") as caught:
        fetched(server.base + path, SHA256, "w.pth")
    assert "\n" not in str(caught.value)
    assert left_in(cache) == []


def test_what_is_on_this_machine_is_not_fetched_unasked(server: Server) -> None:
    reach.use(NetworkSettings())
    with pytest.raises(MissingPart, match="private: true"):
        fetched(f"{server.base}/weights.pth", SHA256, "w.pth")
    assert not server.asked


def test_weights_have_a_largest_size(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detectors.download.LARGEST", len(BODY) - 1)
    with pytest.raises(InputError, match="more than"):
        fetched(f"{server.base}/weights.pth", SHA256, "w.pth")
    assert left_in(cache) == []


def test_something_else_is_refused_and_not_kept(server: Server, cache: Path) -> None:
    with pytest.raises(InputError, match="something else") as caught:
        fetched(f"{server.base}/weights.pth", "0" * 64, "w.pth")
    assert SHA256[:12] in str(caught.value)
    assert left_in(cache) == []


def test_a_damaged_file_is_fetched_again(server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "w.pth").write_bytes(BODY[:-1])
    assert fetched(f"{server.base}/weights.pth", SHA256, "w.pth").read_bytes() == BODY


def test_offline_says_what_to_put_where_and_takes_it(cache: Path) -> None:
    with socket.socket() as bound:  # bound, not listening: nobody answers here
        bound.bind(("127.0.0.1", 0))
        url = f"http://user:hunter2@127.0.0.1:{bound.getsockname()[1]}/w.pth"
        with pytest.raises(MissingPart) as caught:
            fetched(url, SHA256, "w.pth")
        said = str(caught.value)
        assert str(cache / "w.pth") in said
        assert f"127.0.0.1:{bound.getsockname()[1]}/w.pth" in said
        assert "hunter2" not in said

        (cache / "w.pth").write_bytes(BODY)
        assert fetched(url, SHA256, "w.pth").read_bytes() == BODY


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(BODY)
    with pytest.raises(InputError, match="https or http"):
        fetched((tmp_path / "w.pth").as_uri(), SHA256, "w.pth")


def test_an_unwritable_cache_is_named(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("THRESHER_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cannot be written"):
        fetched(f"{server.base}/weights.pth", SHA256, "w.pth")
