"""Streams over HTTP, on the real server: added, changed, paused and removed while a pipeline runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.app.assemble import assemble
from pipeline.app.web.server import WebServer
from pipeline.app.web.site import Site
from pipeline.app.wiring import pipeline, prepare
from pipeline.core.records import Result
from sinks.memory import Memory
from tests.engine.remote_parts import until

CLIP = Path("tests/data/bikes.mp4").resolve()
QUICK = {"cheap": {"model": "people-ssdlite", "runtime": "openvino", "precision": "f32", "max_batch": 1}}
"""Nothing about it has to be measured first."""
PATTERN = {"kind": "pattern", "width": 64, "height": 64, "fps": 20}
JSON = {"content-type": "application/json"}
Section = dict[str, Any]


class Served:
    """A program that runs, as `thresher run CONFIG --web` makes it, and a client of it."""

    def __init__(self, config: Section, folder: Path) -> None:
        path = folder / "config.yaml"
        own = {"web": {"listen": "127.0.0.1:0"}, "cascade": "quick", "cascades": {"quick": QUICK}}
        path.write_text(json.dumps({**own, **config}))
        document = assemble([str(path)], assignments=["sinks={log: {kind: jsonl, path: /dev/null}}"], web=True)
        plan, generations = prepare(document)
        assert plan.web is not None
        self.memory = Memory(limit=20_000)
        self.site = Site(plan.web, plan, generations, document)
        self.site._plan = self.site._plan.__class__(
            **{**vars(self.site._plan), "sinks": {**self.site._plan.sinks, "memory": self.memory}}
        )
        self.running = pipeline(self.site.plan, generations)
        self.server = WebServer(self.site, self.running, "web.listen")
        self.running.start()
        self.client = httpx.Client(base_url=self.server.url, timeout=60)

    def close(self) -> None:
        self.client.close()
        self.running.stop(2.0)
        self.server.close()

    def post(self, **stream: Any) -> httpx.Response:
        return self.client.post("/api/streams", json=stream)

    def patch(self, name: str, **settings: Any) -> httpx.Response:
        return self.client.patch(f"/api/streams/{name}", json=settings)

    def stream(self, name: str) -> Section:
        said = self.client.get(f"/api/streams/{name}")
        assert said.status_code == 200, said.text
        out: Section = said.json()
        return out

    def names(self) -> list[str]:
        return [one["name"] for one in self.client.get("/api/streams").json()["streams"]]

    def results(self, name: str) -> list[Result]:
        return [one for one in self.memory.collector.results if one.window.stream == name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    shutil.copy(CLIP, tmp_path / "films" / "bikes.mp4")
    return tmp_path


@contextlib.contextmanager
def serving(folder: Path, **config: Any) -> Iterator[Served]:
    served = Served(config, folder)
    try:
        yield served
    finally:
        served.close()


def places(said: httpx.Response) -> dict[str, str]:
    assert said.status_code == 422, (said.status_code, said.text)
    return {one["place"]: one["message"] for one in said.json()["errors"]}


@pytest.mark.slow
def test_a_stream_is_added_listed_paused_changed_and_removed(folder: Path) -> None:
    with serving(folder, sources={"gate": PATTERN}) as served:
        said = served.post(name="yard", type="pattern", width=64, height=64, fps=20)
        assert said.status_code == 201, said.text
        assert said.headers["location"] == "/api/streams/yard"
        assert said.json()["kind"] == "pattern"
        assert served.names() == ["gate", "yard"]
        assert until(lambda: served.stream("yard")["results"] > 2)
        yard = served.stream("yard")
        assert yard["settings"] == {**PATTERN, "kind": "pattern"}
        assert (yard["medium"], yard["live"], yard["paused"], yard["whip"]) == ("picture", False, False, None)
        assert yard["received"] == yard["windows"] + yard["sampled_out"] + yard["damaged"] + yard["undecoded"]
        again = served.post(name="yard", kind="pattern")
        assert again.status_code == 409, again.text
        assert "already" in again.json()["detail"]

        assert served.patch("yard", paused=True).json()["state"] == "paused"
        assert until(lambda: served.stream("yard")["in_flight"] == 0)
        seen = len(served.results("yard"))
        changed = served.patch("yard", max_fps=10, in_flight=4)
        assert changed.json()["settings"] == {**PATTERN, "max_fps": 10, "in_flight": 4}
        assert changed.json()["paused"] is True
        resumed = served.patch("yard", paused=False, in_flight=None)
        assert resumed.json()["settings"] == {**PATTERN, "max_fps": 10}
        assert until(lambda: len(served.results("yard")) > seen)
        ids = [one.window.id for one in served.results("yard")]
        assert len(set(ids)) == len(ids)  # it went on, and judged nothing twice

        config = served.client.get("/api/config").json()
        assert config["config"]["sources"] == {"gate": PATTERN, "yard": {**PATTERN, "max_fps": 10}}
        assert "yard:" in config["yaml"]
        assert served.client.delete("/api/streams/yard").status_code == 204
        assert served.names() == ["gate"]
        assert served.client.get("/api/streams/yard").status_code == 404
        assert served.client.get("/api/config").json()["config"]["sources"] == {"gate": PATTERN}
        removed = served.client.get("/api/snapshot").json()["removed"]
        assert removed["results"] >= seen
        assert removed["in_flight"] == 0


def test_what_was_not_there_is_404_and_what_cannot_be_is_told_whole(folder: Path) -> None:
    with serving(folder, sources={"gate": PATTERN}) as served:
        for name in ("nobody", "..%2f..%2fetc%2fpasswd", "a%00b", "gate%2f..", "x" * 100):
            refused = {404} if name in {"nobody", "x" * 100} else {400, 404}  # the guards may be the first to mind
            assert served.client.get(f"/api/streams/{name}").status_code in refused, name
            assert served.client.delete(f"/api/streams/{name}").status_code in refused, name
            assert served.patch(name, paused=True).status_code in refused, name
        for name in ("../etc", "a/b", "", ".hidden", "x" * 65, "a\x00b", "Ünder"):
            assert served.post(name=name, kind="pattern").status_code == 422, name
        wrong = places(served.post(name="yard", kind="pattern", width=1, heigth=64, fps=-3, cascade="peple"))
        assert wrong.keys() == {f"sources.yard.{key}" for key in ("width", "heigth", "fps")}
        assert "Did you mean" in wrong["sources.yard.heigth"]
        assert places(served.post(name="yard", **PATTERN, cascade="peple")).keys() == {"sources.yard.cascade"}
        assert places(served.post(name="yard", kind="rtps", url="x")).keys() == {"sources.yard.kind"}
        assert places(served.post(name="yard")).keys() == {"sources.yard"}
        assert places(served.post(name="yard", kind="rtsp", url="htp:/x")).keys() == {"sources.yard"}
        assert served.post(name="yard", kind="pattern", type="rtsp").status_code == 422
        deep: Any = 1
        for _ in range(200):
            deep = {"of": deep}
        assert served.post(name="yard", kind="pattern", gate=deep).status_code == 422
        half = b'{"name": "yard", "kind": "pattern", "picture": "\\ud800"}'
        assert served.client.post("/api/streams", content=half, headers=JSON).status_code in {400, 422}
        assert served.names() == ["gate"]


def test_a_change_that_does_not_validate_leaves_it_running(folder: Path) -> None:
    with serving(folder, sources={"gate": PATTERN}) as served:
        assert until(lambda: served.stream("gate")["results"] > 2)
        before = served.stream("gate")
        assert places(served.patch("gate", width=3, paused=True)).keys() == {"sources.gate.width"}
        assert places(served.patch("gate", cascade="none")).keys() == {"sources.gate.cascade"}
        after = served.stream("gate")
        assert after["settings"] == before["settings"]
        assert after["connects"] == 1
        assert not after["paused"]
        assert until(lambda: served.stream("gate")["results"] > before["results"])


@pytest.mark.slow
def test_models_are_shared_and_let_go(folder: Path) -> None:
    other = {**QUICK, "rule": {"kind": "boxes", "report": {"person": 0.9}}}
    with serving(folder, sources={"gate": PATTERN}, cascades={"quick": QUICK, "other": other}) as served:
        quick = served.site.generations["quick"]
        assert served.post(name="yard", **PATTERN, cascade="quick").status_code == 201
        assert served.site.generations["quick"] is quick
        own = served.client.get("/api/cascades").json()["cascades"]
        assert [(one["name"], one["streams"]) for one in own] == [("quick", ["gate", "yard"])]
        assert own[0]["stages"][0]["runtime"]
        assert own[0]["rule"]["kind"]
        assert served.post(name="ears", kind="pattern", cascade="words").status_code == 422  # that one hears
        assert set(served.site.generations) == {"quick"}
        assert served.post(name="strict", **PATTERN, cascade="other").status_code == 201
        assert set(served.site.generations) == {"quick", "other"}
        assert served.site.generations["other"].cheap is quick.cheap  # the model was loaded already
        assert served.client.delete("/api/streams/strict").status_code == 204
        assert set(served.site.generations) == {"quick"}
        for name in ("gate", "yard"):
            assert served.client.delete(f"/api/streams/{name}").status_code == 204
        assert not served.site.generations
        assert served.client.get("/api/cascades").json() == {"cascades": []}


def test_it_may_begin_with_nothing_to_watch(folder: Path) -> None:
    events = {"open_at": {"person": 0.6}}
    with serving(folder, sources={}, events=events) as served:
        assert served.names() == []
        assert served.client.get("/api/config").json()["config"]["sources"] == {}
        assert served.post(name="yard", **PATTERN).status_code == 201
        assert until(lambda: served.stream("yard")["results"] > 2)


def test_no_file_is_read_but_below_the_folders_that_the_config_names(folder: Path) -> None:
    (folder / "secret.txt").write_text("a secret")
    os.symlink(folder / "secret.txt", folder / "films" / "link.txt")
    films = str(folder / "films")
    with serving(folder, sources={"gate": PATTERN}) as served:
        for kind, path in (("file", CLIP), ("folder", folder), ("lines", "/etc/passwd"), ("pcm", "-")):
            assert places(served.post(name="x", kind=kind, path=str(path))).keys() >= {"sources.x.kind"}
        wrapped = {"kind": "faulty", "of": {"kind": "file", "path": str(CLIP)}}
        assert "sources.x.of.kind" in places(served.post(name="x", **wrapped))
    web = {"listen": "127.0.0.1:0", "files": [films]}
    with serving(folder, sources={"gate": PATTERN, "own": {"kind": "file", "path": str(CLIP)}}, web=web) as served:
        for path in (str(CLIP), f"{films}/../secret.txt", f"{films}/link.txt", f"{films}2/x", "~/x", "-", "", 0, None):
            told = places(served.post(name="x", kind="lines", path=path))
            assert "sources.x.path" in told or path is None, path
        assert "sources.x.path" in places(served.post(name="x", kind="lines"))  # its default is standard input
        assert served.post(name="x", kind="file", path=f"{films}/bikes.mp4").status_code == 201
        assert places(served.patch("x", path=str(CLIP))).keys() == {"sources.x.path"}
        assert places(served.patch("own", path="/etc/passwd")).keys() == {"sources.own.path"}
        assert served.patch("own", max_fps=2).status_code == 200  # what the config says of it stands
        missing = places(served.post(name="y", kind="file", path=f"{films}/none.mp4"))
        assert list(missing) == ["sources.y"] or list(missing) == ["sources.y.path"]


@pytest.mark.slow
def test_no_secret_is_shown_and_none_can_be_sent_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA", "opensesame-7")
    monkeypatch.setenv("OTHER", "hushhush-8")
    gate = {"kind": "rtsp", "url": "rtsp://me:${CAMERA}@127.0.0.1:9/a"}
    room = {"kind": "irc", "cascade": "chat", "server": "127.0.0.1", "port": 9, "tls": False, "channels": ["#a"]}
    room["password"] = "letmein-9"
    web = {"listen": "127.0.0.1:0", "references": ["CAMERA"]}
    with serving(folder, sources={"gate": gate, "room": room}, web=web) as served:
        told = served.client.get("/api/config").text + served.client.get("/api/streams").text
        for secret in ("opensesame", "letmein", "hushhush"):
            assert secret not in told
        assert served.client.get("/api/config").json()["config"]["sources"]["room"]["password"] == "***"
        assert "${CAMERA}" in told
        url = "rtsp://evil.example/${OTHER}"
        assert "web.references" in places(served.post(name="x", kind="rtsp", url=url))["sources.x.url"]
        file = "rtsp://evil.example/${file:/etc/passwd}"
        assert places(served.post(name="x", kind="rtsp", url=file)).keys() == {"sources.x.url"}
        moved = places(served.patch("room", server="192.0.2.1"))
        assert "not to go elsewhere" in moved["sources.room.password"]
        assert served.patch("room", latency_budget_ms=900).status_code == 200
        # a form sends back all that it was shown
        assert served.patch("room", **{**served.stream("room")["settings"], "in_flight": 4}).status_code == 200
        assert served.site.control._resolved["sources"]["room"]["password"] == "letmein-9"
        assert served.patch("room", server="127.0.0.2", password=None).status_code == 200
        hidden = places(served.post(name="x", kind="rtsp", url="rtsp://me:***@127.0.0.1:9/a"))
        assert "give it anew" in hidden["sources.x.url"]
        assert served.post(name="x", kind="rtsp", url="rtsp://you:${CAMERA}@127.0.0.1:9/b").status_code == 201
        assert "opensesame" not in served.client.get("/api/streams").text


def test_nothing_listens_for_others_and_no_model_is_named_by_its_file(folder: Path) -> None:
    web = {"listen": "127.0.0.1:0", "kinds": ["websocket", "pattern", "kafka", "pcm-socket"]}
    with serving(folder, sources={"gate": PATTERN}, web=web) as served:
        for listen in ("0.0.0.0:0", "192.0.2.1:80", "[::]:0"):
            assert places(served.post(name="x", kind="websocket", listen=listen)).keys() == {"sources.x.listen"}
        model = places(served.post(name="x", **PATTERN, cascade="/tmp/model.onnx"))
        assert model.keys() == {"sources.x.cascade"}
        options = {"plugin.library.paths": "/tmp/x.so"}
        assert "sources.x.options" in places(served.post(name="x", kind="kafka", topic="t", options=options))
        assert "sources.x.kind" in places(served.post(name="x", kind="rtsp", url="rtsp://127.0.0.1/"))
    with serving(folder, sources={"gate": PATTERN, "own": {"kind": "faulty", "of": PATTERN}}) as served:
        for url in ("udp://0.0.0.0:0", "udp://127.0.0.1:0", "UDP://:0"):
            assert places(served.post(name="x", kind="rtsp", url=url)).keys() == {"sources.x.url"}
            assert "sources.own.of.url" in places(served.patch("own", of={"kind": "rtsp", "url": url}))
        for host in ("169.254.169.254:80", "[::ffff:169.254.169.254]", "0xa9fea9fe"):
            told = served.post(name="x", kind="webrtc", ice_servers=[f"stun:{host}"])
            assert "out of reach" in told.text or "no plain spelling" in told.text, told.text


def test_what_a_rule_needs_cannot_be_removed(folder: Path) -> None:
    rule = {"name": "seen", "when": [{"stream": "gate", "label": "person"}], "action": "flag"}
    with serving(folder, sources={"gate": PATTERN, "yard": PATTERN}, policy={"rules": [rule]}) as served:
        said = served.client.delete("/api/streams/gate")
        assert said.status_code == 409
        assert 'there is no stream "gate"' in said.json()["detail"]
        assert served.client.delete("/api/streams/yard").status_code == 204
        assert served.names() == ["gate"]


@pytest.mark.slow
def test_a_film_that_has_ended_is_started_again(folder: Path) -> None:
    film = {"kind": "file", "path": str(CLIP), "max_fps": 2}
    with serving(folder, sources={"clip": film}) as served:
        assert until(lambda: served.running.finished, 60)
        ended = served.patch("clip", paused=True)
        assert ended.status_code == 409
        assert "resume starts it again" in ended.json()["detail"]
        once = served.stream("clip")["results"]
        assert served.patch("clip", paused=False).status_code == 200
        assert until(lambda: served.running.finished, 60)
        assert served.stream("clip")["results"] == 2 * once


def test_the_form_knows_every_kind(folder: Path) -> None:
    with serving(folder, sources={"gate": PATTERN}) as served:
        said = served.client.get("/api/kinds").json()
        kinds = {one["kind"]: one for one in said["kinds"]}
        assert kinds["rtsp"]["required"] == ["kind", "url"]
        assert kinds["rtsp"]["allowed"] is True
        assert kinds["file"]["allowed"] is False
        assert "memory" not in kinds
        assert kinds["pattern"]["schema"]["properties"]["width"]["description"] == "in pixels"
        assert "people" in {one["name"] for one in said["cascades"]}
        refs = {part.split('"')[0] for part in json.dumps(said["kinds"]).split('"#/$defs/')[1:]}
        assert refs <= said["$defs"].keys()
        paths = served.client.get("/openapi.json").json()["paths"]
        assert {"get", "patch", "delete"} <= paths["/api/streams/{name}"].keys()


@pytest.mark.slow
def test_twenty_streams_come_and_go_beside_a_film_whose_results_stay_what_they_are(folder: Path) -> None:
    film = {"kind": "file", "path": str(CLIP), "max_fps": 5}

    def ids(served: Served) -> list[tuple[Any, ...]]:
        return [(one.window.id, one.flagged, one.detections) for one in served.results("film")]

    with serving(folder, sources={"film": film}) as served:
        assert until(lambda: served.running.finished, 120)
        alone = ids(served)
    with serving(folder, sources={"film": film}) as served:
        for number in range(20):
            assert served.post(name=f"s{number}", **PATTERN).status_code == 201
            if number % 3 == 0:
                assert served.patch(f"s{number}", paused=True).status_code == 200
            if number % 2:
                assert served.client.delete(f"/api/streams/s{number}").status_code == 204
            time.sleep(0.05)
        for name in [one for one in served.names() if one != "film"]:
            assert served.client.delete(f"/api/streams/{name}").status_code == 204
        assert until(lambda: served.running.finished, 120)
        assert ids(served) == alone
