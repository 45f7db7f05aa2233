"""What a deployment monitors with: alert rules that Prometheus takes, and a dashboard every query of which has data."""

from __future__ import annotations

import contextlib
import http.server
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from otlp_receiver import receiver

from pipeline.app.config.document import Document
from pipeline.app.runner import served
from pipeline.app.wiring import prepare

DEPLOY = Path("configs/deploy")
SUBSTITUTED = {"$instance": ".*", "$stream": ".*", "$__rate_interval": "20s"}
LINE = Path("pipeline/app/demo/line").absolute()


@pytest.mark.parametrize(
    "words",
    [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts-test.yaml"), ("check", "config", "prometheus.yml")],
)
def test_prometheus_takes_the_rules_and_they_do_what_they_say(project: Path, words: tuple[str, ...]) -> None:
    ran = subprocess.run(["promtool", *words], cwd=project / DEPLOY, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def queries(project: Path) -> dict[str, str]:
    """Those of the dashboard, by where they stand."""
    board = json.loads((project / DEPLOY / "grafana" / "thresher.json").read_text())
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel.get("targets", ())
    }


def test_the_dashboard_is_whole(project: Path) -> None:
    board = json.loads((project / DEPLOY / "grafana" / "thresher.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not taken & cells, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
    assert {one["name"] for one in board["templating"]["list"]} == {"datasource", "instance", "stream"}


@contextlib.contextmanager
def hook() -> Iterator[int]:
    """A webhook that takes everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def everything(folder: Path, hooked: int, traced: str) -> Document:
    """A run with all that the dashboard shows: an audit, a policy, an outbox, a page, traces, a stream to publish."""
    line = {"kind": "line", "path": str(LINE), "names": "*_part", "reference": f"{LINE}/{{stem}}_temp.png"}
    document = Document({}, folder, "everything.yaml")
    audit = {"share": 0.5, "key": "of this test", "alpha": 0.1, "state": str(folder / "audit.json")}
    labels = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
    rules = [{"name": label, "when": [{"stream": "line", "label": label}], "action": "flag"} for label in labels]
    document.data = {
        "sources": {
            "line": {**line, "fps": 3, "repeat": 0, "deadline_ms": 20_000},
            "lobby": {"kind": "webrtc", "cascade": "people"},
        },
        "cascade": {"base": "pcb", "audit": audit},
        "cascades": {"people": {"base": "people"}},
        "policy": {"show": "boards", "streams": {"line": {}}, "rules": rules},
        "sinks": {
            "log": {"kind": "jsonl", "path": str(folder / "log.jsonl")},
            "hook": {"kind": "webhook", "url": f"http://127.0.0.1:{hooked}/", "outbox": {"path": str(folder / "box")}},
        },
        "network": {"private": True},
        "metrics": {"listen": "127.0.0.1:0"},
        "web": {"listen": "127.0.0.1:0", "open": False},
        "trace": {"share": 1, "endpoint": traced},
    }
    return document


@contextlib.contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A real one that scrapes `target` once a second, with the rules; its URL."""
    folder.mkdir()
    shutil.copy(DEPLOY / "alerts.yaml", folder)
    config = (DEPLOY / "prometheus.yml").read_text()
    assert '["127.0.0.1:9642"]' in config
    config = config.replace('["127.0.0.1:9642"]', f'["{target}"]').replace("interval: 5s", "interval: 1s")
    (folder / "prometheus.yml").write_text(config)
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        "--web.listen-address=127.0.0.1:0",
        "--enable-feature=exemplar-storage",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        yield f"http://127.0.0.1:{_port(process)}"
    finally:
        process.terminate()
        process.wait(30)


def _port(process: subprocess.Popen[bytes]) -> int:
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s and process.poll() is None:
        listening = [one.laddr.port for one in psutil.Process(process.pid).net_connections() if one.status == "LISTEN"]
        if listening:
            return int(listening[0])
        time.sleep(0.1)
    raise AssertionError("Prometheus did not start")


def asked(client: httpx.Client, expr: str) -> list[Any]:
    for name, value in SUBSTITUTED.items():
        expr = expr.replace(name, value)
    answer = client.get("/api/v1/query", params={"query": expr})
    assert answer.status_code == 200, (expr, answer.text)
    return [one for one in answer.json()["data"]["result"] if one["value"][1] != "NaN"]


@pytest.mark.slow
def test_every_query_of_the_dashboard_has_data_from_a_real_scrape(project: Path, tmp_path: Path) -> None:
    """The page's server answers what `metrics` does and more, so it is the one that is scraped."""
    with hook() as hooked, receiver() as traced:
        document = everything(tmp_path, hooked, traced.endpoint)
        plan, generations = prepare(document)
        with served(plan, generations, document, 3.0) as (server, running):
            running.start()
            assert server is not None
            target = server.url.removeprefix("http://")
            with prometheus(tmp_path / "prometheus", target) as url, httpx.Client(base_url=url, timeout=30) as client:
                missing = queries(project)
                end_s = time.monotonic() + 150
                while missing and time.monotonic() < end_s:
                    time.sleep(2.0)
                    with contextlib.suppress(httpx.TransportError):
                        missing = {place: expr for place, expr in missing.items() if not asked(client, expr)}
                assert not missing
                _check_ledgers(client, project)
                _check_exemplars(client)
                rules = client.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
                assert {rule["health"] for rule in rules} == {"ok"}


def _check_ledgers(client: httpx.Client, project: Path) -> None:
    asked_for = queries(project)
    for expr in (asked_for[f"Both ledgers: what is unaccounted for {one}"] for one in "AB"):
        assert {one["value"][1] for one in asked(client, expr)} == {"0"}


def _check_exemplars(client: httpx.Client) -> None:
    span = {"start": time.time() - 300, "end": time.time() + 60}
    found = client.get("/api/v1/query_exemplars", params={"query": "thresher_outcome_latency_seconds_bucket", **span})
    labels = [one["labels"] for series in found.json()["data"] for one in series["exemplars"]]
    assert labels and all(len(one["trace_id"]) == 32 and one["window_id"].startswith("line/") for one in labels)
