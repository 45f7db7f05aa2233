"""Messages and words through the commands of the line inspector: train, eval, calibrate, run."""

from __future__ import annotations

import csv
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from calling import Called
from test_cli_train import called, sets

FINE = ("good morning", "well played", "what a lovely song", "see you tomorrow", "how are you", "nice goal")
RUDE = ("you fool", "shut up fool", "what a fool", "fool go away", "stupid fool", "oh fool")
SHORT = [f"{stage}.recipe.{said}" for stage in ("heavy", "cheap") for said in ("batch=16", "evaluate_every=10")]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("chat")
    (home / "data").mkdir()
    rows = [
        (kind, f"{said} {number}")
        for number in range(20)
        for kind, all_ in (("fine", FINE), ("rude", RUDE))
        for said in all_
    ]
    with (home / "data" / "said.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("class", "text"), *rows])
    steps = ("heavy.recipe.steps=40", "cheap.recipe.steps=60")
    trained(called(home, "train", "data", "--name", "chat", "--out", "models", *sets(*SHORT, *steps), "--json"))
    return home


def trained(ran: Called) -> None:
    assert ran.returncode == 0, ran.stderr
    assert [one["name"] for one in json.loads(ran.stdout)["models"]] == ["chat-resnet", "chat-mobilenet"]


def test_what_was_trained_reads_lines(chat: Path) -> None:
    (chat / "said.log").write_text("good morning 3\nyou fool 77\n", encoding="utf-8")
    ran = called(chat, "run", "chat.yaml", *sets("sources.chat.path=said.log", "sinks.table=null"))
    assert ran.returncode == 0, ran.stderr
    lines = (chat / "results" / "chat.jsonl").read_text("utf-8").splitlines()
    fine, rude = (one for one in map(json.loads, lines) if one.get("outcome") == "result")
    assert not fine["flagged"] and rude["flagged"]
    start, end = rude["detections"][0]["chars"]
    assert rude["detections"][0]["label"] == "rude" and "you fool 77"[start:end] in {"you", "fool", "77"}


def test_it_is_measured_and_proved_by_the_same_commands(chat: Path) -> None:
    ran = called(chat, "eval", "models/chat-resnet", "--data", "data", "--json")
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["n"] == 240 and document["metrics"]["f1_weighted"] > 0.9
    ran = called(chat, "calibrate", "chat.yaml", "--data", "data", "--max-miss", "0.1", "--delta", "0.05", "--json")
    assert ran.returncode == 0, ran.stderr
    assert "chat.certificate.yaml" in ran.stdout
    ran = called(chat, "calibrate", "chat.yaml", "--data", "data", "--max-miss", "0.001", "--delta", "0.05")
    assert ran.returncode == 2 and "2995" in ran.stderr  # positives that 0.1 % takes


def test_a_network_for_other_classes_is_refused_before_anything_starts(chat: Path) -> None:
    ran = called(chat, "train", "data", "--name", "other", "--out", "m2", *sets("heavy.recipe.network.classes=5"))
    assert ran.returncode == 2
    assert "heavy.recipe.network.classes" in ran.stderr and "have 2 labels: fine, rude" in ran.stderr


def test_a_camera_is_no_business_of_a_cascade_that_reads(chat: Path) -> None:
    ran = called(chat, "validate", "chat.yaml", *sets("sources.chat={kind: pattern}"))
    assert ran.returncode == 2 and "judges text" in ran.stderr


@pytest.mark.slow
def test_words_are_trained_heard_and_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for word, hertz in (("low", 300), ("high", 1500)):
        for speaker in ("a", "b", "c"):
            for take in range(6):
                tone(tmp_path / "data" / f"{word}_{speaker}_{take}.wav", hertz * (1 + 0.02 * take), 0.35)
    steps = ("heavy.recipe.steps=60", "cheap.recipe.steps=40", "heavy.recipe.bf16=false", "cheap.recipe.bf16=false")
    held = "data.hold_out=[c]"
    ran = called(tmp_path, "train", "data", "--name", "tones", "--out", "models", *sets(*SHORT, *steps, held), "--json")
    assert ran.returncode == 0, ran.stderr
    ran = called(tmp_path, "eval", "models/tones-resnet", "--data", "data", "--group", "c", "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["n"] == 12
    tone(tmp_path / "talk.wav", 300, 0.35, around=1.2)
    source = "sources.tones={kind: sound, path: talk.wav}"
    ran = called(tmp_path, "run", "tones.yaml", *sets(source, "sinks.table=null"), "--json")
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["ledgers"]["windows"]["results"] == told["ledgers"]["windows"]["windows"] > 20


def tone(path: Path, hertz: float, seconds: float, around: float = 0.05) -> None:
    rng = np.random.default_rng(int(hertz))
    time = np.arange(int(seconds * 8000)) / 8000
    sound = 0.4 * np.sin(2 * np.pi * hertz * time) * np.hanning(len(time)) ** 0.3
    silence = np.zeros(int(around * 8000))
    samples = np.concatenate([silence, sound, silence]) + rng.normal(0, 1e-3, len(sound) + 2 * len(silence))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
