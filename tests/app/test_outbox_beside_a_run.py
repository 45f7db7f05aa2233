"""`thresher outbox` beside a run, and where there is nothing yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.core.contracts import OutboxSettings
from pipeline.core.letters import Letter
from pipeline.engine.outbox import Outbox
from tests.app.conftest import Thresher


@pytest.fixture
def hook(tmp_path: Path) -> Path:
    path = tmp_path / "hook.yaml"
    path.write_text("""
sources: {tick: {kind: pattern}}
cascade: people-ssdlite
sinks:
  out: {kind: webhook, url: "http://127.0.0.1:1/", outbox: {path: box}}
network: {private: true}
""")
    return path


def test_looking_makes_nothing(tmp_path: Path, hook: Path, thresher_here: Thresher) -> None:
    for words in ([], ["--send"], ["--retry"]):
        called = thresher_here("outbox", hook, *words, "--json")
        assert called.returncode == 0 and json.loads(called.stdout)["out"]["accepted"] == 0
        assert not (tmp_path / "box").exists()


def test_a_look_beside_a_run(tmp_path: Path, hook: Path, thresher_here: Thresher) -> None:
    box = Outbox(tmp_path / "box", OutboxSettings())
    box.accept([Letter("a/e/1:g", "outcome", "a/e/1", "a", b"{}")])
    called = thresher_here("outbox", hook)
    assert called.returncode == 0 and "1 waiting in box" in called.stdout
    for word in ("--send", "--retry"):
        called = thresher_here("outbox", hook, word)
        assert called.returncode == 2 and "box: a run has it now, and sends by itself" in called.stderr
    box.close()


@pytest.mark.parametrize(("path", "status"), [("file", 2), ("file/x", 2), ("x" * 300, 2), ("~nobody-of-this-name", 0)])
def test_what_is_no_outbox(path: str, status: int, tmp_path: Path, hook: Path, thresher_here: Thresher) -> None:
    (tmp_path / "file").touch()
    hook.write_text(hook.read_text().replace("path: box", f"path: {path}"))
    called = thresher_here("outbox", hook, "--send")
    assert called.returncode == status and ("cannot be read" in called.stderr) == (status == 2)
