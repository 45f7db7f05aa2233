"""`thresher` as a person calls it, in a folder of its own."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from calling import COMMAND, Called, Thresher

from pipeline.app.cli import main


@pytest.fixture
def thresher(tmp_path: Path) -> Thresher:
    """Call it with the words of a command line, as a process that runs in `tmp_path`."""

    def call(*words: object, environment: Mapping[str, str] | None = None) -> Called:
        return subprocess.run(
            [*COMMAND, *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100", **(environment or {})},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return call


@pytest.fixture
def thresher_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Thresher:
    """The same inside this process, which is quicker: for calls that end before anything starts."""
    monkeypatch.chdir(tmp_path)
    handlers, level = logging.root.handlers[:], logging.root.level

    def run(*words: object) -> Called:
        capfd.readouterr()
        try:
            status = main([str(word) for word in words])
        finally:
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
        said = capfd.readouterr()
        return subprocess.CompletedProcess([str(word) for word in words], status, said.out, said.err)

    return run
