"""What somebody who means harm, or holds the keyboard the wrong way round, may type: one line, status 2, no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.app.cli import main

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
