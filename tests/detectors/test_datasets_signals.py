"""Spoken words and labelled messages: what is read, what is grouped, what is left out and counted."""

from __future__ import annotations

import csv
import wave
from pathlib import Path

import numpy as np
import pytest

from detectors.datasets import read_dataset
from pipeline.core.errors import InputError
from pipeline.core.sound import SoundSpec
from pipeline.core.sounds import BadSound, centred, read_sound
from pipeline.core.text import TextSpec


def tone(path: Path, seconds: float = 0.2, rate: int = 8000) -> Path:
    samples = (0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def table(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("class", "text")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_words_are_classes_and_speakers_are_groups(tmp_path: Path) -> None:
    for name in ("yes_anna_0", "yes_bo_0", "no_anna_0", "no_anna_1"):
        tone(tmp_path / f"{name}.wav")
    (tmp_path / "noise.wav").write_bytes(tone(tmp_path / "x_y_z.tmp").read_bytes())
    (tmp_path / "no_bo_7.wav").write_bytes(b"")
    data = read_dataset(tmp_path)
    assert data.labels == ("no", "yes") and len(data) == 4
    assert data.groups == {"anna": 3, "bo": 1}
    assert data.left_out == {"sounds of no word": 1, "empty files": 1}
    sound = data.samples[0].payload(SoundSpec(16_000, 8000))
    assert sound.sample().shape == (8000,)


def test_a_file_that_is_no_sound_says_so(tmp_path: Path) -> None:
    bad = tmp_path / "yes_anna_0.wav"
    bad.write_bytes(b"RIFF nothing of the kind")
    with pytest.raises(BadSound, match="cannot be decoded"):
        read_sound(bad, 8000)
    with pytest.raises(BadSound, match="cannot be decoded"):
        read_sound(tmp_path / "absent.wav", 8000)


def test_a_recording_is_put_in_the_middle() -> None:
    samples = np.zeros(1000, np.float32)
    samples[700:800] = 1
    for count in (300, 1000, 5000):
        out = centred(samples, count)
        middle = np.flatnonzero(out).mean()
        assert out.shape == (count,) and out.sum() == 100 and abs(middle - count / 2) < 3


def test_what_says_the_same_is_one_group(tmp_path: Path) -> None:
    rows = [("fine", "hello there"), ("fine", "HELLO   there"), ("rude", "go away"), ("rude", ""), ("", "hm")]
    table(tmp_path / "labeled.csv", [*rows, ("fine", "twice"), ("rude", "Twice")])
    data = read_dataset(tmp_path)
    assert data.labels == ("fine", "rude") and len(data) == 3
    assert len(data.groups) == 2
    assert data.left_out == {"rows without class or text": 2, "copies of which one is labelled otherwise": 2}
    assert data.samples[0].payload(TextSpec(32)).view(TextSpec(32)).data.tobytes().rstrip(b"\0") == b"hello there"


def test_a_column_of_groups_is_taken_and_what_is_good_comes_first(tmp_path: Path) -> None:
    table(tmp_path / "a.csv", [("hate", "x", "ann"), ("neither", "y", "bob")], ("class", "text", "group"))
    data = read_dataset(tmp_path)
    assert data.labels == ("neither", "hate") and set(data.groups) == {"ann", "bob"}


def test_bytes_that_are_no_text_are_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"class,text\nfine,\xff\xfe\n")
    with pytest.raises(InputError, match="cannot be read as CSV in UTF-8"):
        read_dataset(tmp_path, "messages")


def test_a_quote_that_never_ends_swallows_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('class,text\nfine,"hello\nrude,go away\nfine,see you\n', encoding="utf-8")
    with pytest.raises(InputError, match="behind line 1"):
        read_dataset(tmp_path, "messages")


def test_columns_of_other_names_are_told(tmp_path: Path) -> None:
    table(tmp_path / "a.csv", [("x", "y")], ("label", "message"))
    with pytest.raises(InputError, match=r"a\.csv has label, message"):
        read_dataset(tmp_path, "messages")
