"""What is said on standard error, as text and as JSON."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calling import Thresher

from pipeline.app import logs
from pipeline.core import secrets

CLIP = "tests/data/bikes.mp4"
SECRET = 'pl4nted "log\\secret'


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logs.set_up(logging.WARNING)
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(said: str) -> list[dict[str, Any]]:
    """Each line is an object with what every one has."""
    objects = [json.loads(line) for line in said.splitlines()]
    for one in objects:
        assert {"time", "level", "logger", "message"} <= one.keys()
        assert one["time"].endswith("Z") and "T" in one["time"]
    return objects


def test_a_record_is_an_object_that_says_of_which_stream_it_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(logging.WARNING, "json")
    log = logging.getLogger("pipeline.engine.supervisor")
    log.warning("%s hangs\nnow", "door", extra={"stream": "door"})
    reading = threading.Thread(target=lambda: log.error("broken off"), name="source-yard")
    reading.start()
    reading.join()
    writing = threading.Thread(target=lambda: log.error("full"), name="sink-log")
    writing.start()
    writing.join()
    log.info("too low to be said")
    logs.say("people: mobilenet")
    hangs, broken, full, said = lines(capsys.readouterr().err)
    assert (hangs["level"], hangs["logger"], hangs["message"]) == ("warning", log.name, "door hangs\nnow")
    assert (hangs["stream"], broken["stream"], full["sink"]) == ("door", "yard", "log")
    assert (said["level"], said["logger"], said["message"]) == ("info", "thresher", "people: mobilenet")
    assert "stream" not in said


@pytest.mark.parametrize("form", logs.FORMS)
@pytest.mark.parametrize("level", [logging.WARNING, logging.DEBUG])
def test_no_secret_is_said(capsys: pytest.CaptureFixture[str], form: logs.Form, level: int) -> None:
    secrets.remember(SECRET)
    logs.set_up(level, form)
    log = logging.getLogger("sources.rtsp")
    log.warning("cannot open rtsp://me:hush-hush@cam/1 with %s", SECRET, extra={"stream": f"door {SECRET}"})
    try:
        raise OSError(f"it is {SECRET!r}, {json.dumps(SECRET)}")
    except OSError:
        log.exception("broken off")
    logs.say(f"it was {SECRET}", logging.ERROR)
    said = capsys.readouterr().err
    forms = (SECRET, json.dumps(SECRET)[1:-1], json.dumps(json.dumps(SECRET))[1:-1], "pl4nted", "hush-hush")
    assert not [one for one in forms if one in said]
    assert "OSError" in said and "***" in said
    if form == "json":
        assert lines(said)[1]["exception"].startswith("Traceback")


def test_a_mistake_is_an_object_too(thresher_here: Thresher, monkeypatch: pytest.MonkeyPatch) -> None:
    told = thresher_here("--log-format", "json", "run", "nowhere.mp4")
    (mistake,) = lines(told.stderr)
    assert told.returncode == 2
    assert (mistake["level"], mistake["logger"]) == ("error", "thresher")
    assert "there is no such file" in mistake["message"]
    monkeypatch.setenv("THRESHER_LOG", "json")
    assert lines(thresher_here("run", "nowhere.mp4").stderr)
    assert thresher_here("--log-format", "text", "run", "nowhere.mp4").stderr.startswith("thresher: nowhere.mp4: ")
    monkeypatch.setenv("THRESHER_LOG", "yaml")
    told = thresher_here("run", "nowhere.mp4")
    assert told.returncode == 2 and "'json'" in told.stderr


@pytest.mark.slow
def test_a_run_says_nothing_but_objects(thresher: Thresher, project: Path) -> None:
    ran = thresher("run", project / CLIP, "--out", "out", "--json", environment={"THRESHER_LOG": "json"})
    assert ran.returncode == 0
    assert json.loads(ran.stdout)["ledgers"]
    said = [line for line in ran.stderr.splitlines() if line.startswith("{")]
    assert any(one["message"].startswith("people: ") for one in lines("\n".join(said)))
