"""Clips of real films: cut at key frames, nothing encoded anew, whole or not there at all."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from pipeline.core.contracts import Sink
from pipeline.engine.event_settings import EventSettings
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.clip import Clip
from sources.file import File
from sources.hearing import SoundTrack
from tests.engine.parts import generation
from tests.sinks.clip_parts import clips, levels, make_film, packets

EVENTS = EventSettings(start_after=2, end_after_s=0.5)


def run(film: File, *sinks: Sink, events: EventSettings = EVENTS, seconds: float | None = None) -> None:
    pipeline = Pipeline(
        [StreamPlan("door", film, "levels", generation())],
        {f"sink{n}": sink for n, sink in enumerate(sinks)},
        events=events,
    )
    pipeline.start()
    assert pipeline.wait(seconds or 60) or seconds
    pipeline.stop()
    for sink in pipeline.snapshot().sinks:
        assert (sink.refused, sink.dropped, sink.detail) == (0, 0, "")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "film.mp4", 20, [(6.2, 8.0), (13.0, 14.0)])


@pytest.mark.parametrize("max_fps", [None, 5])
def test_each_event_gets_the_seconds_around_it(film: Path, tmp_path: Path, max_fps: float | None) -> None:
    plan = Clip(path=str(tmp_path / "clips"), before_s=2, after_s=1)
    run(File(path=film, max_fps=max_fps), plan)
    made = clips(tmp_path / "clips")
    assert len(made) == 2
    source = packets(film)
    for (path, said), (start, end) in zip(made.items(), [(6.2, 8.0), (13.0, 14.0)], strict=True):
        assert said["clip"] == path.name and said["event"]["type"] == "end" and said["whole"]
        shown = levels(path)
        begins = said["start_ns"] / 1e9
        assert start - 3 - 0.05 <= begins <= start - 2 + 0.05, "at the key frame before"
        assert begins == pytest.approx(round(begins), abs=0.01), "which is a whole second in this film"
        assert said["begins_late_s"] == 0
        assert begins + shown[-1][0] == pytest.approx(end + 1, abs=0.3)
        at = said["event_at_s"]
        assert at == pytest.approx(start - begins, abs=0.25)
        bright = [when for when, level in shown if level > 120]
        assert bright[0] == pytest.approx(start - begins, abs=0.05)
        assert bright[-1] == pytest.approx(end - begins, abs=0.1)
        taken = packets(path)
        assert len(shown) == len(taken), "every packet is a picture that can be shown"
        first = source.index(taken[0])
        assert taken == source[first : first + len(taken)], "bit for bit"
    assert not list((tmp_path / "clips").glob("*/.*"))


def test_sound_beside_the_pictures_is_in_it(film: Path, tmp_path: Path) -> None:
    run(File(path=film, sound=SoundTrack()), Clip(path=str(tmp_path / "clips"), before_s=1, after_s=1))
    for path, said in clips(tmp_path / "clips").items():
        with av.open(str(path)) as container:
            seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
        assert seconds == pytest.approx((said["end_ns"] - said["start_ns"]) / 1e9, abs=0.3)
        assert said["codecs"] == ["h264", "aac"]
