"""When a program with a page ends: with its files, or when somebody says so."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from calling import COMMAND

from tests.engine.remote_parts import until

QUICK = {"cheap": {"model": "people-ssdlite", "runtime": "openvino", "precision": "f32", "max_batch": 1}}
CLIP = Path("tests/data/bikes.mp4").resolve()


def config(folder: Path, sources: dict[str, object], **web: object) -> Path:
    path = folder / "config.yaml"
    sinks = {"log": {"kind": "jsonl", "path": "/dev/null"}}
    settings = {"listen": "127.0.0.1:0", "open": False, **web}
    path.write_text(json.dumps({"sources": sources, "cascade": QUICK, "sinks": sinks, "web": settings}))
    return path


def film() -> dict[str, object]:
    return {"clip": {"kind": "file", "path": str(CLIP), "max_fps": 1}}


def run(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "run", str(path), *words], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.slow
def test_without_a_person_in_front_it_ends_with_its_files(tmp_path: Path) -> None:
    ran = run(config(tmp_path, film()), "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["streams"]["clip"]["state"] == "ended"
    assert "the page stays" not in ran.stderr


@pytest.mark.slow
def test_it_stays_where_the_config_says_so_until_its_time_is_over(tmp_path: Path) -> None:
    ran = run(config(tmp_path, film(), stay=True), "--for", "6s", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["seconds"] >= 6
    assert ran.stderr.count("the page stays until Ctrl-C") == 1


@pytest.mark.slow
def test_with_nothing_to_watch_it_waits_for_somebody_to_add_some(tmp_path: Path) -> None:
    ran = run(config(tmp_path, {}), "--for", "2s", "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["streams"] == {}
    assert document["seconds"] >= 2
    bare = tmp_path / "bare.yaml"
    bare.write_text("sources: {}\n")
    without = run(bare)
    assert without.returncode == 2
    assert "nothing to watch" in without.stderr


@pytest.mark.slow
def test_in_a_terminal_the_page_stays_until_ctrl_c(tmp_path: Path) -> None:
    master, terminal = pty.openpty()
    said = tmp_path / "said"
    with said.open("wb") as errors:
        process = subprocess.Popen(
            [*COMMAND, "run", str(config(tmp_path, film()))], stdout=terminal, stderr=errors, stdin=subprocess.DEVNULL
        )
    try:
        os.close(terminal)
        assert until(lambda: b"the page stays until Ctrl-C" in said.read_bytes(), 90), said.read_text()
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        os.close(master)
