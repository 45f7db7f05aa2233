"""What is written is there whole, or what was there before still is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.core.errors import InputError
from pipeline.core.files import save_text, write_whole


def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.json"
    save_text(path, "before")

    def full(_: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        save_text(path, "after")
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_is_none_is_written_as_it_can_be(tmp_path: Path) -> None:
    save_text(tmp_path / "name", "\ud800")
    assert (tmp_path / "name").read_text() == "\\ud800"
