"""`thresher outbox`: what waits, during a run and after it; what was refused, again; what is left, sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from calling import Thresher

from pipeline.core.contracts import OutboxSettings
from pipeline.engine.outbox import Outbox
from tests.engine.remote_parts import letter


@pytest.fixture
def receiver() -> Iterator[ThreadingHTTPServer]:
    class Takes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Takes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def config(tmp_path: Path, receiver: ThreadingHTTPServer) -> str:
    hook = {"kind": "webhook", "url": f"http://127.0.0.1:{receiver.server_port}/"}
    said = {
        "network": {"private": True},
        "sources": {"door": {"kind": "pattern"}},
        "cascade": "chat",
        "sinks": {"hook": hook},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(said))
    return "run.yaml"


def box(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "outbox" / "hook", OutboxSettings())


def told(called: Any) -> dict[str, Any]:
    assert called.returncode == 0, called.stderr
    said: dict[str, Any] = json.loads(called.stdout)["hook"]
    return said


def test_it_looks_without_leaving_a_trace_also_while_a_run_has_it(
    thresher_here: Thresher, config: str, tmp_path: Path
) -> None:
    assert told(thresher_here("outbox", config, "--json"))["waiting"] == 0
    assert not (tmp_path / "outbox").exists()
    with closing(box(tmp_path)) as held:
        assert told(thresher_here("outbox", config, "--json"))["accepted"] == 0
        held.accept([letter(n) for n in range(3)])
        held.delivered(1)
        said = told(thresher_here("outbox", config, "--json"))
        assert (said["accepted"], said["delivered"], said["waiting"]) == (3, 1, 2)
        assert said["bytes"] == held.snapshot().bytes
        busy = thresher_here("outbox", config, "--send")
        assert busy.returncode == 2 and "a run has it now" in busy.stderr


@pytest.mark.slow
def test_what_was_refused_waits_again_and_what_waits_is_sent(
    thresher_here: Thresher, config: str, tmp_path: Path
) -> None:
    with closing(box(tmp_path)) as held:
        held.accept([letter(n) for n in range(3)])
        held.refused(*held.take(1, 0.0)[0], "410 gone")
    said = told(thresher_here("outbox", config, "--json"))
    assert (said["refused"], said["waiting"]) == (1, 2) and said["dead"][0]["reason"] == "410 gone"
    assert "410 gone" in thresher_here("outbox", config).stdout
    said = told(thresher_here("outbox", config, "--retry", "--json"))
    assert said["waiting"] == 3 and said["dead"] == []
    said = told(thresher_here("outbox", config, "--send", "--json"))
    assert (said["delivered"], said["refused"], said["waiting"], said["accepted"]) == (3, 1, 0, 4)


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--json",), ("--send", "--json")])
def test_a_ledger_that_is_gone_is_said(
    thresher_here: Thresher, config: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with closing(box(tmp_path)) as held:
        held.accept([letter(0)])
    (tmp_path / "outbox" / "hook" / "cursor").write_bytes(b"nonsense")
    called = thresher_here("outbox", config, *words)
    if "--send" in words:
        assert told(called)["delivered"] == 1
    else:
        assert called.returncode == 2 and "its ledger is damaged" in called.stderr
