"""Sound in a config: tracks beside pictures, gates that listen, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from detectors.choice import ModelChoice, build_stage
from pipeline.app.assemble import assemble
from pipeline.app.config.document import Document, read
from pipeline.app.config.load import load
from pipeline.app.config.mistakes import Mistakes
from pipeline.app.config.schema import json_schema
from pipeline.app.graph import mermaid
from pipeline.app.wiring import pipeline, prepare
from pipeline.core.contracts import Stage
from pipeline.core.errors import InputError, InputErrors
from pipeline.core.media import Spec
from pipeline.core.payloads import ViewSpec
from pipeline.core.records import Findings
from pipeline.core.sound import SoundSpec
from sources.file import File
from tests.sources.sounds import film, sound_file, speech, tone

SPECS: dict[str, Spec] = {
    "eyes": ViewSpec(8, 8),
    "ears": SoundSpec(16_000, 8_000),
    "long-ears": SoundSpec(16_000, 24_000),
    "bat-ears": SoundSpec(32_000, 32_000),
}


@dataclass
class Level:
    """Scores how strong a view is, be it of light or of sound."""

    name: str
    spec: Spec
    labels: tuple[str, ...] = ("strong",)
    max_batch: int = 8
    workers: int = 1

    def score(self, views: Sequence[Any]) -> Sequence[Findings]:
        levels = [float(np.abs(view.data.astype(np.float32)).mean()) for view in views]
        return [Findings(self.labels, np.array([level], np.float32), np.zeros(1, np.int64)) for level in levels]

    def warm(self) -> None:
        pass

    def describe(self) -> dict[str, object]:
        return {"model": self.name}


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(choice: ModelChoice) -> Stage:
        return Level(choice.name or choice.model, SPECS[choice.model])

    monkeypatch.setattr("pipeline.app.wiring.build_stage", build)
    monkeypatch.setattr("pipeline.app.wiring.find_model", lambda choice: None)


def document(folder: Path, text: str) -> Document:
    path = folder / "c.yaml"
    path.write_text(text + "\nsinks: {log: {kind: jsonl, path: %s}}\n" % (folder / "log.jsonl"))
    return read(path)


CASCADES = "cascades: {see: {cheap: {model: eyes}}, hear: {cheap: {model: ears}}}"


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as raised:
        prepare(document(folder, text))
    error = raised.value
    return [str(one) for one in (error.errors if isinstance(error, InputErrors) else [error])]


def test_a_film_is_seen_and_heard(tmp_path: Path) -> None:
    spoken = speech(16_000)
    samples = np.concatenate((np.zeros(16_000, np.float32), spoken, np.zeros(16_000, np.float32)))
    seconds = len(samples) / 16_000
    clip = film(tmp_path / "a.mp4", samples[None], 16_000, frames=int(seconds * 25))
    plan, generations = prepare(
        document(
            tmp_path,
            f"sources: {{door: {{kind: file, path: {clip}, cascade: see, "
            f"sound: {{cascade: hear, gate: voice}}}}}}\n{CASCADES}",
        )
    )
    source = plan.sources["door"]
    assert isinstance(source, File) and source.sound is not None
    assert (source.sound.rate, source.sound.window_s) == (16_000, 0.5)
    running = pipeline(plan, generations)
    running.start()
    assert running.wait(60)
    running.stop()
    streams = {one.stream: one for one in running.snapshot().streams}
    assert streams.keys() == {"door", "door.sound"}
    for one in streams.values():
        assert one.received == one.windows + one.damaged + one.undecoded and one.results == one.windows > 0
    heard = streams["door.sound"]
    assert heard.received == pytest.approx(seconds * 10, abs=2)
    assert heard.decided_by["voice"] >= 14, "what is before and behind the speech"
    assert heard.decided_by["ears"] == pytest.approx(len(spoken) / 1600, abs=9)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    lines = [line for line in lines if "outcome" in line]  # events are told there, too
    assert {line["stream"] for line in lines} == {"door", "door.sound"}
    assert len({line["id"] for line in lines}) == len(lines)


def test_what_does_not_fit_is_told_with_its_place(tmp_path: Path) -> None:
    clip = film(tmp_path / "a.mp4", tone(1, 16_000), 16_000)
    wav = sound_file(tmp_path / "a.wav", tone(1, 16_000), 16_000)
    told = mistakes(
        tmp_path,
        f"""sources:
  a: {{kind: file, path: {clip}, cascade: see, sound: {{cascade: see}}}}
  b: {{kind: file, path: {clip}, cascade: hear}}
  c: {{kind: sound, path: {wav}, cascade: hear, rate: 8000}}
  d: {{kind: sound, path: {wav}, cascade: hear, gate: motion}}
  e: {{kind: file, path: {clip}, cascade: see, gate: voice}}
  f: {{kind: file, path: {clip}, cascade: see, sound: {{cascade: hear, hop_s: 0.8, gate: voice}}}}
{CASCADES}""",
    )
    where = {line.split(": ")[1]: line for line in told}
    assert "judges picture, and this is sound" in where["sources.a.sound.cascade"]
    assert "judges sound, and this is picture" in where["sources.b.cascade"]
    assert "leave `rate` out" in where["sources.c.rate"]
    assert "the gate motion is for picture" in where["sources.d.gate"]
    assert "the gate voice is for sound" in where["sources.e.gate"]
    assert "leaves out sound" in where["sources.f.sound.hop_s"]
    assert len(told) == 6


def test_two_stages_hear_one_stream(tmp_path: Path) -> None:
    wav = sound_file(tmp_path / "a.wav", tone(1, 16_000), 16_000)
    rule = "rule: {kind: scores, watch: [strong], clear_below: 0.1, confirm: {strong: 0.5}}"
    (told,) = mistakes(
        tmp_path,
        f"sources: {{a: {{kind: sound, path: {wav}}}}}\n"
        f"cascade: {{cheap: {{model: ears}}, heavy: {{model: bat-ears}}, {rule}}}",
    )
    assert "cascade.heavy" in told and "hears 16000 samples a second, and this one 32000" in told
    (told,) = mistakes(
        tmp_path,
        f"sources: {{a: {{kind: sound, path: {wav}}}}}\n"
        f"cascade: {{cheap: {{model: ears}}, heavy: {{model: eyes}}, {rule}}}",
    )
    assert "judges sound, and this one picture" in told
    plan, _ = prepare(
        document(
            tmp_path,
            f"sources: {{a: {{kind: sound, path: {wav}}}}}\n"
            f"cascade: {{cheap: {{model: ears}}, heavy: {{model: long-ears}}, {rule}}}",
        )
    )
    assert plan.sources["a"].model_dump()["window_s"] == 1.5, "as much as the one hears that hears most"


def test_settings_of_a_track_are_checked_like_any(tmp_path: Path) -> None:
    clip = film(tmp_path / "a.mp4", None, 0)
    told = mistakes(
        tmp_path,
        f"""sources:
  a:
    kind: file
    path: {clip}
    cascade: see
    sound: {{cascade: hear, hops: 1, gate: voise}}
  a.sound: {{kind: file, path: {clip}, cascade: see}}
  b: {{kind: file, path: {clip}, cascade: see, isolation: process, sound: {{cascade: hear}}}}
  c: {{kind: file, path: {clip}, cascade: see, sound: {{cascade: hear, silence_s: 3}}}}
{CASCADES}""",
    )
    text = "\n".join(told)
    assert 'Did you mean "hop_s"?' in text and 'Did you mean "voice"?' in text
    assert "only pictures are decoded in a process of their own" in text
    assert "`silence_s` is the source's to say" in text
    assert len(told) == 4


def test_a_name_that_a_track_has_already(tmp_path: Path) -> None:
    clip = film(tmp_path / "a.mp4", None, 0)
    (told,) = mistakes(
        tmp_path,
        f"""sources:
  a: {{kind: file, path: {clip}, cascade: see, sound: {{cascade: hear}}}}
  a.sound: {{kind: file, path: {clip}, cascade: see}}
{CASCADES}""",
    )
    assert "another source has the name a.sound already" in told


def test_the_graph_shows_both_streams(tmp_path: Path) -> None:
    clip = film(tmp_path / "a.mp4", None, 0)
    written = document(
        tmp_path,
        f"sources: {{a: {{kind: file, path: {clip}, cascade: see, sound: {{cascade: hear, gate: voice}}}}}}\n"
        f"{CASCADES}",
    )
    found = Mistakes(written)
    flow = mermaid(load(written, found), written)
    found.raise_if_any()
    assert not list(Draft202012Validator(json_schema()).iter_errors(written.data))
    assert '(["a<br/>file"])' in flow and '(["a.sound<br/>file, sound"])' in flow
    assert '{{"voice"}}' in flow and "-->|passed|" in flow


def test_a_sound_file_as_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sound_file(tmp_path / "talk.wav", tone(0.2, 16_000), 16_000)
    assert assemble(["talk.wav"]).data["sources"] == {"talk": {"kind": "sound", "path": "talk.wav"}}
    document = assemble(["talk.wav"])
    assert load(document, Mistakes(document)).watches == {"talk": "words"}
    monkeypatch.setattr("pipeline.app.wiring.build_stage", build_stage)
    with pytest.raises(InputError, match="judges picture, and this is sound: name another one"):
        prepare(assemble(["talk.wav"], detect="people"))
