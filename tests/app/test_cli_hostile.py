"""What somebody who means harm, or holds the keyboard the wrong way round, may type: one line, status 2, no secret."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.app.cli import main
from tests.detectors.made_pictures import picture

PASSWORD = "Tr0ub4dor&3"


@pytest.mark.parametrize(
    "target",
    [
        f"rtsp://u:a/{PASSWORD}@h/",
        f"rtsp://u:My@{PASSWORD}/x@127.0.0.1/s1",
        f"rtsp://u:My@{PASSWORD}#x@127.0.0.1/s1",
        f"u:{PASSWORD}@h",
        f"rtsp:u:{PASSWORD}@h/x",
        "/dev/zero",
        "/dev/null",
        "²",
        "x" * 5000,
        "\x1b]0;PWN\x07x",
    ],
)
def test_a_target_that_is_none(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", target]) == 2
    shown = capsys.readouterr()
    said = shown.out + shown.err
    assert PASSWORD not in said
    assert "Traceback" not in said
    assert "\x1b" not in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "text",
    [
        "sources: {a: }",
        "sources: &a [*a]",
        "sources: &a\n  <<: *a\n",
        "x: " + "[" * 1500,
        "sources: {a: {kind: pattern, fps: " + "9" * 5000 + "}}",
        "sources: {a: {kind: rtsp, url: 'rtsp://h/', silence_s: .inf}}",
        "sources: {a: {kind: pattern, latency_budget_ms: .inf}}",
        "sources: {a: {kind: pattern, max_fps: 1.0e-320}}",
        "sources: {a: {kind: rtsp, url: '${file:/dev/zero}'}}",
        'sources: {a: {kind: file, path: "a\\0b"}}',
        "sources: {a: {kind: pattern}}\nmetrics: {listen: 'a..b:80'}",
    ],
)
def test_a_config_that_is_none(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text + "\n", encoding="utf-8")
    assert main(["run", str(config), "--for", "1s"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "unexpected" not in said
    assert "c.yaml" in said


@pytest.mark.parametrize("option", ["--max-miss", "--delta", "--max-false", "--match-iou"])
@pytest.mark.parametrize("value", ["nan", "0", "1", "-1", "inf", "x"])
def test_a_rate_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    assert main(["calibrate", "moderation", "--data", str(tmp_path), option, value]) == 2
    assert option in capsys.readouterr().err


@pytest.mark.parametrize("command", ["calibrate", "eval"])
@pytest.mark.parametrize("assignment", ["quatsch=1", "rule.clear_below=0.1"])
def test_a_setting_that_would_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, assignment: str
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "data" / "good" / "1.jpg")
    picture(tmp_path / "data" / "bad" / "2.jpg")
    assert main([command, "moderation", "--data", "data", "--set", assignment]) == 2
    assert "there is no such key" in capsys.readouterr().err


def test_what_is_no_certificate_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "data" / "1.jpg")
    config = tmp_path / "mine.yaml"
    config.write_text("cascade: moderation\n")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for out, why in (
        ("mine.yaml", "is no certificate"),
        ("pipe", "is no file"),
        ("folder", "is a folder"),
        ("gone/c.yaml", "cannot be written"),
    ):
        assert main(["calibrate", "mine.yaml", "--data", "data", "--out", out]) == 2
        assert why in capsys.readouterr().err
    assert config.read_text() == "cascade: moderation\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "folder", "mine.yaml", "pipe"]


@pytest.mark.parametrize("content", ["", "gone.jpg\n", "/dev/zero"])
def test_a_list_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "data" / "good" / "1.jpg")
    picture(tmp_path / "data" / "bad" / "2.jpg")
    only = Path(content) if content.startswith("/") else tmp_path / "only.txt"
    if not content.startswith("/"):
        only.write_text(content)
    assert main(["eval", "moderation", "--data", "data", "--only", str(only)]) == 2
    assert "--only: " in capsys.readouterr().err
    assert main(["eval", "moderation", "--data", "data", "--group", "x"]) == 2
    assert "There are none." in capsys.readouterr().err
