"""What may stand on the command line in a config's place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.app.assemble import assemble
from pipeline.app.config.load import load
from pipeline.app.config.mistakes import Mistakes
from pipeline.app.config.plan import Plan
from pipeline.app.wiring import prepare
from pipeline.core.errors import InputError, InputErrors


@pytest.fixture
def here(tmp_path: Path, people_clip: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.mp4").symlink_to(people_clip)
    (tmp_path / "my pictures").mkdir()
    (tmp_path / "chat.log").write_text("hello\n")
    return tmp_path


def sources(*targets: str, **options: Any) -> dict[str, Any]:
    section: dict[str, Any] = assemble(targets, **options).data["sources"]
    return section


def loaded(*targets: str, **options: Any) -> Plan:
    document = assemble(targets, **options)
    mistakes = Mistakes(document)
    plan = load(document, mistakes)
    mistakes.raise_if_any()
    return plan


@pytest.mark.parametrize(
    ("target", "name", "section"),
    [
        ("clip.mp4", "clip", {"kind": "file", "path": "clip.mp4"}),
        ("./clip.mp4", "clip", {"kind": "file", "path": "./clip.mp4"}),
        ("my pictures", "my-pictures", {"kind": "folder", "path": "my pictures"}),
        ("0", "webcam-0", {"kind": "webcam", "device": 0}),
        ("/dev/video2", "video2", {"kind": "webcam", "device": "/dev/video2"}),
        ("rtsp://h:8554/cam", "cam", {"kind": "rtsp", "url": "rtsp://h:8554/cam"}),
        ("rtmp://h/app/streamkey", "h", {"kind": "rtsp", "url": "rtmp://h/app/streamkey"}),
        ("rtsp://u:verysecret@h", "h", {"kind": "rtsp", "url": "rtsp://u:verysecret@h"}),
        ("https://h/live/x.m3u8?token=abc", "h", {"kind": "rtsp", "url": "https://h/live/x.m3u8?token=abc"}),
        ("wss://u:verysecret@h/feed", "h", {"kind": "websocket", "url": "wss://u:verysecret@h/feed"}),
        ("chat.log", "chat", {"kind": "lines", "path": "chat.log"}),
        ("-", "stdin", {"kind": "lines", "path": "-"}),
    ],
)
def test_a_target_is_known_by_its_looks(here: Path, target: str, name: str, section: dict[str, Any]) -> None:
    assert sources(target) == {name: section}


def test_names_never_clash(here: Path) -> None:
    assert list(sources("clip.mp4", "clip.mp4", "rtsp://a/clip", "rtsp://a/\u00e9!")) == [
        "clip",
        "clip-2",
        "clip-3",
        "stream",
    ]


def test_targets_join_the_sources_of_a_config(here: Path) -> None:
    (here / "c.yaml").write_text("sources: {clip: {kind: webcam, device: 3}}\n")
    assert list(sources("c.yaml", "clip.mp4")) == ["clip", "clip-2"]


def test_results_are_named_after_what_is_watched(here: Path) -> None:
    (here / "c.yaml").write_text("cascade: people\n")
    for targets, name in ((["clip.mp4"], "clip"), (["clip.mp4", "0"], "run"), (["c.yaml", "clip.mp4"], "c")):
        sinks = assemble(targets).data["sinks"]
        assert (sinks["log"]["path"], sinks["db"]["path"]) == (f"results/{name}.jsonl", f"results/{name}.sqlite")
    assert assemble(["clip.mp4"], results=Path("out")).data["sinks"]["log"]["path"] == "out/clip.jsonl"


def test_lines_in_are_verdicts_out(here: Path) -> None:
    assert assemble(["-"]).data["sinks"] == {"verdicts": {"kind": "jsonl", "path": "-", "events": False}}
    assert "table" in assemble(["-"], as_json=True).data["sinks"]
    assert assemble(["-"], results=Path("out")).data["sinks"]["log"]["path"] == "out/stdin.jsonl"
    with pytest.raises(InputError, match="can be read once"):
        assemble(["-", "-"])


def test_the_medium_says_what_judges(here: Path) -> None:
    (here / "c.yaml").write_text(
        "cascades: {chat: {cheap: {model: people-ssdlite}}, more: {cheap: {model: open-nsfw}}}\n"
    )
    plan = loaded("c.yaml", "chat.log", "clip.mp4")
    assert plan.watches == {"chat": "chat", "clip": "people"}
    document = assemble(["chat.log"], assignments=["cascade.rule.report.x=0.5"])
    assert document.data["cascade"]["base"] == "chat"


def test_out_is_refused_where_the_config_has_sinks(here: Path) -> None:
    (here / "c.yaml").write_text("sinks: {}\n")
    with pytest.raises(InputError, match="names its own sinks"):
        assemble(["c.yaml", "clip.mp4"], results=Path("out"))


def test_json_keeps_standard_output_to_itself(here: Path) -> None:
    assert assemble(["clip.mp4"], as_json=True).data["sinks"]["table"]["stream"] == "stderr"
    (here / "c.yaml").write_text("sinks: {log: {kind: jsonl, path: '-'}}\n")
    assert assemble(["c.yaml", "clip.mp4"]).data["sinks"]["log"]["path"] == "-"
    with pytest.raises(InputError, match="standard output"):
        assemble(["c.yaml", "clip.mp4"], as_json=True)


def test_set_reaches_into_a_shipped_cascade(here: Path) -> None:
    plan = loaded(
        "clip.mp4", assignments=["cascade.rule.report.person=0.75", "sources.clip.gate=motion", "sinks.db=null"]
    )
    (cascade,) = plan.cascades.values()
    assert cascade.rule is not None and cascade.rule.model_dump()["report"] == {"person": 0.75}  # type: ignore[attr-defined]
    assert cascade.rule.model_dump()["escalate"] == {"person": 0.5}  # type: ignore[attr-defined]
    assert plan.sources["clip"].gate is not None and set(plan.gates) == {"clip"}
    assert set(plan.sinks) == {"table", "log"}


@pytest.mark.parametrize("more", [["sources.clip.fps=none"], []], ids=["looked at", "built"])
def test_a_look_answers_for_no_more_than_its_tile_shows(here: Path, more: list[str]) -> None:
    """The heavy stage of the boards sees tiles of 128 pixels."""
    said = ["cascade.heavy.runtime=openvino", "cascade.heavy.precision=f32", "cascade.rule.reach=65"]
    said += ["cascade.certificate=null", *more]
    with pytest.raises((InputError, InputErrors)) as caught:
        prepare(assemble(["clip.mp4"], detect="pcb", assignments=said))
    errors = caught.value.errors if isinstance(caught.value, InputErrors) else [caught.value]
    (mine,) = (error for error in errors if error.place.endswith("cascade.rule.reach"))
    assert "65 pixels to each side of its middle, and the heavy stage sees a tile of 128: at most 64" in mine.message


def test_detect_wins_over_the_config(here: Path) -> None:
    (here / "c.yaml").write_text("cascade: people\n")
    assert list(loaded("c.yaml", "clip.mp4", detect="moderation").cascades) == ["moderation"]
    assert list(loaded("clip.mp4", detect="people-ssdlite").cascades) == ["people-ssdlite"]


def test_each_source_has_the_cascade_it_names(here: Path) -> None:
    (here / "c.yaml").write_text(
        "sources:\n  a: {kind: file, path: clip.mp4}\n  b: {kind: file, path: clip.mp4, cascade: mine}\n"
        "cascade: moderation\ncascades: {mine: {cheap: {model: people-ssdlite}}}\n"
    )
    assert loaded("c.yaml").watches == {"a": "moderation", "b": "mine"}


def test_a_models_path_starts_from_the_config(here: Path) -> None:
    folder = here / "deep"
    folder.mkdir()
    (folder / "c.yaml").write_text("cascade: {cheap: {model: ./mine.onnx, output: yolo}}\n")
    (cascade,) = loaded("deep/c.yaml", "clip.mp4").cascades.values()
    assert Path(cascade.cheap.model) == folder / "mine.onnx"


def test_two_sinks_never_share_a_file(here: Path) -> None:
    (here / "c.yaml").write_text("sinks: {a: {kind: jsonl, path: x}, b: {kind: jsonl, path: ./x}}\n")
    with pytest.raises(InputError, match='sink "a" writes to this path already'):
        loaded("c.yaml", "clip.mp4")


def test_every_cascade_is_looked_at_and_only_those_in_use_are_built(here: Path) -> None:
    (here / "c.yaml").write_text(
        "sources: {a: {kind: file, path: clip.mp4, cascade: mine}}\ncascade: {cheap: {model: gone.onnx}}\n"
        "cascades: {mine: {cheap: {model: people-ssdlite}}, idle: {cheap: {model: also-gone}}, cascade: {cheap: {}}}\n"
    )
    with pytest.raises(InputErrors) as caught:
        prepare(assemble(["c.yaml"]))
    places = [error.place for error in caught.value.errors]
    assert places == [
        "c.yaml:3: cascades.cascade.cheap.model",
        "c.yaml:3: cascades.cascade",
        "c.yaml:3: cascades.idle.cheap",
    ]
    (here / "c.yaml").write_text(
        "sources: {a: {kind: file, path: clip.mp4, cascade: mine}}\n"
        "cascades: {mine: {cheap: {model: people-ssdlite}}, idle: {cheap: {model: open-nsfw}}}\n"
    )
    _, generations = prepare(assemble(["c.yaml"]))
    assert list(generations) == ["mine"]
