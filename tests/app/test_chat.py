"""Text as a person uses it: lines in, verdicts out; one question, one verdict."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from calling import COMMAND
from tiny_models import exclaims

from pipeline.app.config.document import read
from pipeline.app.wiring import prepare
from pipeline.core.errors import InputError
from sources.conversation import Conversation

CONFIG = """\
cascade:
  cheap: {model: ./model, runtime: openvino, precision: f32}
  rule: {kind: scores, watch: [bad], flag_at: 0.5}
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    exclaims(tmp_path / "model")
    (tmp_path / "chat.yaml").write_text(CONFIG)
    return tmp_path


def environment(project: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(project)}


def test_lines_in_verdicts_out(here: Path, project: Path) -> None:
    said = "hello there\n\nwatch out!\n" + json.dumps({"text": "h\u0435llo!", "user": "ann"}) + "\n" + "so it is. " * 60
    ran = subprocess.run(
        [*COMMAND, "run", "chat.yaml", "-"], cwd=here, env=environment(project), input=said, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    verdicts = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [one["seq"] for one in verdicts] == list(range(8)), "the last one takes five pieces"
    assert [one["verdict"] for one in verdicts] == ["accept", "reject", "reject"] + ["accept"] * 5
    assert {one["stream"] for one in verdicts} == {"stdin"}
    assert re.search(r"^frames: +8 received", ran.stderr, re.MULTILINE), ran.stderr


def test_a_piece_is_no_longer_than_what_each_stage_reads(here: Path) -> None:
    exclaims(here / "long", 256)
    text = """\
cascade:
  cheap: {model: ./long, runtime: openvino, precision: f32}
  heavy: {model: ./model, runtime: openvino, precision: f32, name: second}
  rule: {kind: scores, watch: [bad], clear_below: 0.2, flag_at: 0.9, confirm: {bad: 0.5}}
sources: {a: {kind: http, listen: 127.0.0.1:0%s}}
"""
    (here / "two.yaml").write_text(text % "")
    source = prepare(read(here / "two.yaml"))[0].sources["a"]
    assert isinstance(source, Conversation) and source.longest == 127
    (here / "two.yaml").write_text(text % ", longest: 200")
    with pytest.raises(InputError, match=r"sources\.a\.longest: its cascade reads 127 bytes at once"):
        prepare(read(here / "two.yaml"))


def test_one_question_one_verdict(here: Path, project: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (here / "chat.yaml").write_text(CONFIG + f"sources: {{api: {{kind: http, listen: {port}}}}}\n")
    command = [*COMMAND, "run", "chat.yaml"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = subprocess.Popen(command, cwd=here, env=environment(project), **pipes)
    try:
        assert ask(port, "all is well")["verdict"] == "accept"
        found = ask(port, "all is well. " * 40 + "Or not!")
        assert found["verdict"] == "reject" and found["pieces"] > 3 and found["stream"] == "api"
    finally:
        running.terminate()
        _, err = running.communicate(timeout=30)
    assert running.returncode == 0, err


def ask(port: int, text: str) -> dict[str, object]:
    question = urllib.request.Request(f"http://127.0.0.1:{port}/judge", json.dumps({"text": text}).encode())
    end = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(question, timeout=10) as answer:
                document: dict[str, object] = json.load(answer)
                return document
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.1)
