"""The commands that start no stream."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest
from calling import Thresher

from pipeline.app.cli import COMMANDS


def test_help_names_every_command(thresher_here: Thresher) -> None:
    said = thresher_here("--help").stdout
    assert all(re.search(rf"^  {name}\b", said, re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(thresher_here: Thresher, name: str) -> None:
    ran = thresher_here(name, "--help")
    assert ran.returncode == 0
    assert ran.stdout.startswith(f"Usage: thresher {name}")


def test_nothing_at_all_shows_the_way(thresher_here: Thresher) -> None:
    ran = thresher_here()
    assert ran.returncode == 2
    assert "thresher demo" in ran.stderr


def test_version(thresher_here: Thresher) -> None:
    assert thresher_here("version").stdout == f"thresher {metadata.version('thresher')}\n"
    assert json.loads(thresher_here("version", "--json").stdout) == {"version": metadata.version("thresher")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(thresher_here: Thresher, shell: str) -> None:
    ran = thresher_here("completion", shell)
    assert ran.returncode == 0
    assert "_THRESHER_COMPLETE" in ran.stdout and shell in ran.stderr


def test_a_shell_gets_words_to_complete(thresher: Thresher) -> None:
    ran = thresher(environment={"_THRESHER_COMPLETE": "bash_complete", "COMP_WORDS": "thresher mod", "COMP_CWORD": "1"})
    assert ran.stdout.split() == ["plain,models"]


def test_models(thresher_here: Thresher) -> None:
    rows = {row["name"]: row for row in json.loads(thresher_here("models", "--json").stdout)["models"]}
    assert {"people-ssdlite", "nsfw-mobilenet", "open-nsfw"} <= set(rows)
    assert all(row["licence"] and row["labels"] for row in rows.values())
    assert rows["people-ssdlite"]["bytes"] > 1_000_000
    assert "people-ssdlite" in thresher_here("models").stdout
    shown = thresher_here("models", "show", "open-nsfw").stdout
    assert "labels: safe, unsafe" in shown and "licence: BSD" in shown
    assert json.loads(thresher_here("models", "show", "open-nsfw", "--json").stdout)["labels"] == ["safe", "unsafe"]


def test_graph(thresher_here: Thresher, tmp_path: Path, people_clip: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        f"sources:\n  a: {{kind: file, path: {people_clip}, gate: motion}}\n"
        f"  b: {{kind: file, path: {people_clip}, cascade: mine}}\n"
        "cascade: people\ncascades: {mine: {cheap: {model: nsfw-mobilenet}}}\n"
        "sinks: {log: {kind: jsonl, path: x.jsonl}}\n"
    )
    lines = [line.strip() for line in thresher_here("graph", "c.yaml").stdout.splitlines()]
    assert lines[0] == "flowchart LR"
    names = dict(re.findall(r"^(\w+)\W+(\w+)<br/>", "\n".join(lines), re.MULTILINE))
    arrows = "\n".join(line for line in lines if "-->" in line)
    for node, name in names.items():
        arrows = re.sub(rf"\b{node}\b", name, arrows)
    assert set(arrows.splitlines()) == {
        "a --> motion -->|changed| mobilenet",
        "b --> cheap",
        "mobilenet -->|escalated| resnet",
        "mobilenet & resnet --> log",
        "cheap --> log",
    }


def test_doctor(thresher_here: Thresher) -> None:
    ran = thresher_here("doctor", "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["machine"]["cores"] >= 1 and document["machine"]["memory_mib"] > 100
    assert document["codecs"]["h264"] is True and document["inputs"]["rtsp"] is True
    assert any(one["runtime"] == "openvino" and one["version"] for one in document["runtimes"])
    shipped = {one["model"]: one for one in document["models"]}
    for name in ("people-ssdlite", "nsfw-mobilenet", "open-nsfw"):
        assert sum(way["used"] for way in shipped[name]["ways"]) == 1
        assert all(way["refused"] or way["ms"] > 0 for way in shipped[name]["ways"])
    said = thresher_here("doctor").stdout
    for word in ("processor", "memory", "openvino", "people-ssdlite", "●", "h264 ✓", "optional"):
        assert word in said


def test_an_unexpected_error_is_one_line_and_its_trace_is_kept(
    thresher_here: Thresher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug is provoked for real: a working directory that is gone."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ran = thresher_here("run", "rtsp://192.0.2.1/x")
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1 and "Traceback" not in ran.stderr
    assert "Traceback" in (tmp_path / "state" / "thresher" / "log" / "last-error.log").read_text()
