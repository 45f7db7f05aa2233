"""Evidence from a camera: clips cut from what the network brought."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipeline.engine.event_settings import EventSettings
from pipeline.engine.pipeline import Pipeline, StreamPlan
from sinks.clip import Clip
from sources.rtsp import Rtsp
from tests.engine.parts import generation
from tests.rtsp.rtsp_servers import RtspServer
from tests.sinks.clip_parts import clips, levels, make_film


@pytest.mark.slow
def test_a_camera_that_dies_leaves_the_clip_of_what_it_saw(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", 30, [(n, n + 1.0) for n in range(2, 30, 4)])
    folder = tmp_path / "clips"
    with RtspServer(f"cam={film}") as server:
        pipeline = Pipeline(
            [StreamPlan("cam", Rtsp(url=server.url("cam")), "levels", generation())],
            {"clip": Clip(path=str(folder), before_s=1, after_s=1)},
            events=EventSettings(start_after=2, end_after_s=0.5),
        )
        pipeline.start()
        end = time.monotonic() + 60
        while len(clips(folder)) < 2 or not list(folder.glob("*/.*")):
            assert time.monotonic() < end
            time.sleep(0.05)
        server.kill()
        server.start()
        known = len(clips(folder))
        while len(clips(folder)) < known + 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        pipeline.stop()
    made = clips(folder)
    assert len({said["event"]["event"].split("/")[1] for said in made.values()}) == 2, "of both connections"
    for path, said in made.items():
        shown = levels(path)
        assert len(shown) == said["packets"]
        bright = [when for when, level in shown if level > 120]
        assert bright and bright[0] == pytest.approx(max(0.0, said["event_at_s"]), abs=0.2)
    (sink,) = pipeline.snapshot().sinks
    assert (sink.refused, sink.dropped) == (0, 0)
