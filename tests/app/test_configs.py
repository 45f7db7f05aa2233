"""Every config that ships is complete: it is checked as a person would check it, models and all."""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from calling import Thresher
from jsonschema import Draft202012Validator

from pipeline.app.config.document import read
from pipeline.app.config.schema import json_schema

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
URL = "rtsp://viewer:s3cretpw@192.0.2.1/stream"
FETCHES_WEIGHTS = {"coco.yaml"}  # 180 MB at first use: its settings are read here, its models are not


@pytest.fixture
def workplace(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the configs name."""
    for folder in ("pipeline", "configs"):
        (tmp_path / folder).symlink_to(project / folder)
    (tmp_path / "inbox").mkdir()
    monkeypatch.setenv("CAM_URL", URL)
    monkeypatch.setenv("CAM_PASSWORD", "s3cretpw")
    monkeypatch.setenv("CHAT_CHANNEL", "#somebody")
    monkeypatch.setenv("WEBHOOK_SECRET", "whsec_" + base64.b64encode(b"s3cretpw" * 4).decode())
    monkeypatch.setenv("REDIS_URL", "rediss://:s3cretpw@192.0.2.1:6379/0")
    monkeypatch.setenv("DATABASE_URL", "postgresql://thresher:s3cretpw@192.0.2.1/thresher")
    monkeypatch.setenv("LOBBY_TOKEN", "s3cretpw" * 2)
    for name in ("MQTT_PASSWORD", "KAFKA_PASSWORD"):
        monkeypatch.setenv(name, "s3cretpw")
    return tmp_path


@pytest.mark.parametrize(
    "name", sorted(path.name for path in CONFIGS.glob("*.yaml") if path.name not in FETCHES_WEIGHTS)
)
def test_it_is_valid(thresher_here: Thresher, workplace: Path, name: str) -> None:
    words = [f"configs/{name}"]
    if name == "onnx.yaml":  # the person's own model lies beside the person's own copy, and there is something to watch
        package = importlib.util.find_spec("nudenet")
        assert package is not None and package.origin is not None
        (workplace / "320n.onnx").symlink_to(Path(package.origin).parent / "320n.onnx")
        (workplace / name).write_text((CONFIGS / name).read_text())
        words = [name, "pipeline/app/demo/people.mp4"]
    ran = thresher_here("validate", *words)
    assert ran.returncode == 0, ran.stderr
    assert "valid: " in ran.stdout
    assert "s3cretpw" not in ran.stdout + ran.stderr


@pytest.mark.parametrize("name", sorted(FETCHES_WEIGHTS))
def test_its_settings_can_be_read(thresher_here: Thresher, workplace: Path, name: str) -> None:
    ran = thresher_here("graph", f"configs/{name}")
    assert ran.returncode == 0, ran.stderr
    assert "coco-fasterrcnn" in ran.stdout


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_it_fits_the_schema(name: str) -> None:
    assert misfits(read(CONFIGS / name).data) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"sauces": {}}, ""),
        ({"sources": {"a": {"kind": "file"}}}, "sources.a"),
        ({"sources": {"a": {"kind": "file", "path": "x", "max_fsp": 1}}}, "sources.a"),
        ({"sources": {"a": {"kind": "file", "path": "x", "max_fps": []}}}, "sources.a"),
        ({"sources": {"a": {"kind": "nope", "path": "x"}}}, "sources.a"),
        ({"sinks": {"a": {"kind": "jsonl", "paht": "x"}}}, "sinks.a"),
        ({"cascade": {"heavy": {"model": "open-nsfw"}}}, "cascade"),
        ({"sources": {"a b": {"kind": "file", "path": "x"}}}, "sources"),
    ],
)
def test_the_schema_marks_mistakes(change: dict[str, Any], where: str) -> None:
    Draft202012Validator.check_schema(json_schema())
    assert misfits(change) == [where]


def test_the_schema_takes_references_where_numbers_stand() -> None:
    source = {"kind": "rtsp", "url": "${CAM_URL}", "max_fps": "${FPS}", "gate": {"kind": "motion", "refresh_s": 5}}
    assert misfits({"sources": {"a": source}}) == []


def test_the_schema_explains_every_setting_of_its_own(thresher_here: Thresher) -> None:
    schema = json.loads(thresher_here("schema").stdout)
    assert schema["$schema"].endswith("2020-12/schema")
    kinds = {option["properties"]["kind"]["const"]: option for option in schema["$defs"]["source"]["oneOf"]}
    assert {"file", "folder", "rtsp", "webcam", "pattern"} <= set(kinds) and "memory" not in kinds
    assert "description" in kinds["rtsp"]["properties"]["url"] and "description" in kinds["rtsp"]


def misfits(document: dict[str, Any]) -> list[str]:
    """Where `document` does not fit the schema."""
    errors = Draft202012Validator(json_schema()).iter_errors(document)
    return [".".join(map(str, error.absolute_path)) for error in errors]
