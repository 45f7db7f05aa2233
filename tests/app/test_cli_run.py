"""`thresher run` on real clips and real models, as a person or a script calls it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from calling import COMMAND, Thresher

FRAMES = 200  # of the clip of people


def ledgers_hold(document: dict[str, Any]) -> None:
    frames, windows = document["ledgers"]["frames"], document["ledgers"]["windows"]
    assert frames["received"] == sum(frames[name] for name in ("windows", "sampled_out", "damaged", "undecoded"))
    assert windows["windows"] == frames["windows"]
    assert windows["windows"] == sum(windows[name] for name in ("results", "shed", "failed", "in_flight"))


@pytest.mark.slow
def test_a_film_to_results_that_last(thresher: Thresher, tmp_path: Path, people_clip: Path) -> None:
    ran = thresher("run", people_clip, "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    ledgers_hold(document)
    assert document["ledgers"]["windows"]["results"] == FRAMES
    assert document["ledgers"]["windows"]["in_flight"] == 0
    assert sum(document["decided_by"].values()) == pytest.approx(1, abs=0.001)
    latency = document["latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"]
    (generation,) = document["generations"].values()
    assert generation["certified"] is False
    assert "uncertified" in ran.stderr

    lines = [json.loads(line) for line in (tmp_path / "results" / "people.jsonl").read_text().splitlines()]
    outcomes = [line for line in lines if "outcome" in line]
    assert [line["seq"] for line in outcomes] == list(range(FRAMES))
    people = [line for line in outcomes if any(found["label"] == "person" for found in line["detections"])]
    assert len(people) > FRAMES / 2
    for line in people:
        for found in line["detections"]:
            left, top, right, bottom = found["box"]
            assert 0 <= left < right <= 768 and 0 <= top < bottom <= 576
    kinds = [line["type"] for line in lines if "event" in line]
    assert "new" in kinds and kinds.count("new") == kinds.count("end")

    with sqlite3.connect(tmp_path / "results" / "people.sqlite") as database:
        assert database.execute("SELECT count(*) FROM results").fetchone() == (FRAMES,)
        assert database.execute("SELECT count(*) FROM events WHERE label = 'person'").fetchone()[0] >= 1
    database.close()


@pytest.mark.slow
def test_the_summary_for_people(thresher: Thresher, people_clip: Path) -> None:
    ran = thresher("run", people_clip, "--set", "sources.people.max_fps=2")
    assert ran.returncode == 0, ran.stderr
    for word in ("frames:", "windows:", "decided by:", "latency:", "uncertified:"):
        assert word in ran.stdout
    assert "sampled out" in ran.stdout


@pytest.mark.slow
def test_several_targets_at_once(thresher: Thresher, people_clip: Path, project: Path) -> None:
    bikes = project / "tests" / "data" / "bikes.mp4"
    fewer = [word for name, fps in (("people", 1), ("bikes", 2)) for word in ("--set", f"sources.{name}.max_fps={fps}")]
    ran = thresher("run", people_clip, bikes, people_clip, "--json", "--detect", "people-ssdlite", *fewer)
    document = json.loads(ran.stdout)
    assert ran.returncode == 0, ran.stderr
    assert set(document["streams"]) == {"people", "bikes", "people-2"}
    assert document["streams"]["people"]["sampled_out"] > 0
    assert document["streams"]["people-2"]["sampled_out"] == 0
    ledgers_hold(document)


@pytest.mark.slow
def test_running_with_openvino_imports_no_torch(tmp_path: Path, people_clip: Path) -> None:
    code = (
        "import sys; from pipeline.app.cli import main\n"
        f"status = main(['run', {str(people_clip)!r}, '--set', 'cascade.cheap.runtime=openvino',"
        " '--set', 'cascade.heavy.runtime=openvino', '--set', 'sources.people.max_fps=1'])\n"
        "heavy = ('torch', 'torchvision', 'onnxruntime', 'nncf')\n"
        "print('status', status, [name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.stdout.splitlines()[-1] == "status 0 []", ran.stderr


@pytest.mark.slow
def test_for_ends_a_stream_that_never_would(thresher: Thresher, tmp_path: Path, people_clip: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"sources: {{a: {{kind: file, path: {people_clip}, realtime: true, loop: true}}}}\ncascade: people\n"
    )
    ran = thresher("run", "c.yaml", "--for", "1.5s", "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    ledgers_hold(document)
    assert 1.5 <= document["seconds"] < 12
    assert document["ledgers"]["windows"]["in_flight"] == 0


@pytest.mark.slow
def test_a_model_of_ones_own_in_three_lines(
    thresher: Thresher, tmp_path: Path, people_clip: Path, project: Path
) -> None:
    import importlib.util

    package = importlib.util.find_spec("nudenet")
    assert package is not None and package.origin is not None
    (tmp_path / "320n.onnx").symlink_to(Path(package.origin).parent / "320n.onnx")
    (tmp_path / "onnx.yaml").write_text((project / "configs" / "onnx.yaml").read_text())
    ran = thresher("run", "onnx.yaml", people_clip, "--json", "--set", "sources.people.max_fps=2")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    ledgers_hold(document)
    assert document["ledgers"]["windows"]["results"] >= 30


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_reports(tmp_path: Path, people_clip: Path, number: signal.Signals) -> None:
    (tmp_path / "c.yaml").write_text(
        f"sources: {{a: {{kind: file, path: {people_clip}, realtime: true, loop: true}}}}\n"
        "sinks: {log: {kind: jsonl, path: log.jsonl}}\n"
    )
    with subprocess.Popen(
        [*COMMAND, "run", "c.yaml", "--json"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        wait_for(lambda: (tmp_path / "log.jsonl").exists() and (tmp_path / "log.jsonl").stat().st_size > 0)
        running.send_signal(number)
        out, err = running.communicate(timeout=20)
    assert running.returncode == 0, err
    document = json.loads(out)
    ledgers_hold(document)
    assert document["ledgers"]["windows"]["in_flight"] == 0
    written = [line for line in (tmp_path / "log.jsonl").read_text().splitlines() if '"outcome"' in line]
    assert len(written) == document["ledgers"]["windows"]["windows"]


def test_the_second_signal_leaves_at_once(tmp_path: Path, people_clip: Path) -> None:
    fifo = tmp_path / "log.jsonl"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # read a little, then never again: the drain cannot finish
    (tmp_path / "c.yaml").write_text(
        f"sources: {{a: {{kind: file, path: {people_clip}, loop: true}}}}\n"
        "sinks: {log: {kind: jsonl, path: log.jsonl}}\n"
    )
    with subprocess.Popen(
        [*COMMAND, "run", "c.yaml"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as running:
        wait_for(lambda: _readable(reader))
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        for line in running.stderr:
            if b"once more" in line:
                break
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=5) == 128 + signal.SIGINT
    os.close(reader)


def _readable(descriptor: int) -> bool:
    try:
        return bool(os.read(descriptor, 1))
    except BlockingIOError:
        return False


@pytest.mark.slow
def test_results_that_could_not_be_written_are_a_failure(thresher: Thresher, tmp_path: Path, people_clip: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"sources: {{a: {{kind: file, path: {people_clip}, max_fps: 1}}}}\ncascade: people-ssdlite\n"
        "sinks: {log: {kind: jsonl, path: /dev/full}}\n"
    )
    ran = thresher("run", "c.yaml", "--for", "2s", "--json")
    assert ran.returncode == 1
    assert "sinks.log: " in ran.stderr and "No space left on device" in ran.stderr
    assert json.loads(ran.stdout)["sinks"]["log"]["written"] == 0


@pytest.mark.slow
def test_a_camera_that_is_not_there_is_waited_for_unless_told_otherwise(thresher: Thresher) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"rtsp://127.0.0.1:{closed.getsockname()[1]}/cam"
        waiting = thresher("run", url, "--for", "2s", "--json")
        assert waiting.returncode == 0, waiting.stderr
        assert json.loads(waiting.stdout)["streams"]["cam"]["state"] == "connecting"
        strict = thresher("run", url, "--require-sources", "--connect-within", "1s", "--json")
    assert strict.returncode == 1
    assert "cam: not connected within 1 s" in strict.stderr
    assert json.loads(strict.stdout)["problems"][0].startswith("cam: not connected")


@pytest.mark.slow
def test_a_planted_password_shows_nowhere(thresher: Thresher, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"rtsp://viewer:s3cretpw@127.0.0.1:{closed.getsockname()[1]}/cam"
        (tmp_path / "c.yaml").write_text(
            "sources: {cam: {kind: rtsp, url: '${CAM_URL}'}, bad: {kind: rtsp, ulr: '${CAM_URL}'}}"
        )
        good = "sources: {cam: {kind: rtsp, url: '${CAM_URL}'}}\ncascade: people\n"
        (tmp_path / "good.yaml").write_text(good)
        secret = {"CAM_URL": url}
        calls = [
            thresher("run", url, "--for", "1s", "--json"),
            thresher("--debug", "run", "good.yaml", "--for", "1s", environment=secret),
            thresher("run", "good.yaml", "--require-sources", "--connect-within", "1s", environment=secret),
            thresher("run", "c.yaml", environment=secret),
            thresher("validate", "c.yaml", "--json", environment=secret),
            thresher("graph", "good.yaml", environment=secret),
            thresher("run", url.replace("rtsp:", "rtps:")),
            thresher("run", url.replace("127.0.0.1:", "127.0.0.1:x")),
            thresher("run", url, "--set", f"sources.cam={url}"),
            thresher("run", url, "--set", url),
            thresher("run", url, "--detect", url),
            thresher("run", "--no-such-option", url),
            thresher(url),
        ]
    for ran in calls:
        assert "s3cretpw" not in ran.stdout + ran.stderr, ran.args
        assert "Traceback" not in ran.stderr
    for path in (tmp_path / "results").rglob("*"):
        assert b"s3cretpw" not in path.read_bytes(), path


def test_metrics_while_it_runs(tmp_path: Path, people_clip: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "c.yaml").write_text(
        f"sources: {{a: {{kind: file, path: {people_clip}, realtime: true, loop: true}}}}\n"
        "sinks: {log: {kind: jsonl, path: log.jsonl}}\n"
    )
    with subprocess.Popen(
        [*COMMAND, "run", "c.yaml", "--metrics", str(port)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        wait_for(lambda: (tmp_path / "log.jsonl").exists() and (tmp_path / "log.jsonl").stat().st_size > 0)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read()
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=20) == 0
    assert b'thresher_windows_total{stream="a"}' in text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert checked.returncode == 0 and checked.stderr == b"", checked.stderr.decode()


def wait_for(condition: Any, within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_posted_parts_get_their_word_and_leave_pictures(tmp_path: Path, project: Path) -> None:
    picture = (project / "detectors" / "zoo" / "samples" / "people-1.jpg").read_bytes()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "c.yaml").write_text(
        f"sources: {{line: {{kind: line, trigger: http, listen: {port}, deadline_ms: 30000}}}}\n"
        "cascade: people\n"
        "sinks:\n  log: {kind: jsonl, path: log.jsonl}\n  r: {kind: rejects, path: rejects}\n"
        "  d: {kind: doubts, path: doubts, band: [0, 1], every_s: 0}\n"
    )
    ids: list[str] = []

    def posted() -> bool:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            url = f"http://127.0.0.1:{port}/part?name=p{len(ids)}.jpg"
            with urllib.request.urlopen(urllib.request.Request(url, picture), timeout=30) as answer:
                ids.append(json.loads(answer.read())["id"])
        return len(ids) == 3

    with subprocess.Popen([*COMMAND, "run", "c.yaml", "--json"], cwd=tmp_path, stdout=subprocess.PIPE) as running:
        wait_for(posted)
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
    told = json.loads(out)
    ledgers_hold(told)
    assert told["lines"] == ["line"] and told["verdicts"] == {"accept": 0, "reject": 3, "unknown": 0}
    rows = [json.loads(row) for row in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(row["id"], row["file"], row["verdict"]) for row in rows if "id" in row] == [
        (name, f"p{n}.jpg", "reject") for n, name in enumerate(ids)
    ]
    assert len(list((tmp_path / "rejects").iterdir())) == 3
    data = json.loads((tmp_path / "doubts" / "annotations.json").read_text())
    assert [image["part"] for image in data["images"]] == ["p0.jpg", "p1.jpg", "p2.jpg"] and data["annotations"]
