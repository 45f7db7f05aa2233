"""Streams are paused, resumed, started again and changed."""

from __future__ import annotations

import time

import pytest
from coming_parts import FILM, both, camera, of, plan, said

from pipeline.core.errors import InputError
from pipeline.core.records import SourceState
from pipeline.engine.pipeline import Pipeline
from sinks.memory import Memory as MemorySink
from sources.memory import Memory
from tests.engine.remote_parts import until


def test_a_live_stream_begins_anew_when_it_is_resumed_and_the_pause_is_told_of() -> None:
    sink = MemorySink()
    pipeline = Pipeline([plan("door", camera(), both())], {"m": sink})
    pipeline.start()
    assert until(lambda: of(pipeline, "door").results > 3)
    pipeline.pause("door")
    paused = of(pipeline, "door")
    assert paused.state is SourceState.PAUSED
    assert until(lambda: of(pipeline, "door").in_flight == 0)
    settled = of(pipeline, "door").windows
    time.sleep(0.2)
    assert of(pipeline, "door").windows == settled
    assert not pipeline.finished
    pipeline.pause("door")  # twice is once
    pipeline.resume("door")
    assert until(lambda: of(pipeline, "door").windows > settled)
    assert of(pipeline, "door").outages == 1
    assert len({one.window.epoch for one in sink.collector.outcomes}) == 2
    pipeline.stop()


def test_what_has_ended_or_failed_can_be_started_again() -> None:
    sink = MemorySink()
    film = Memory(script=FILM)
    pipeline = Pipeline([plan("film", film, both())], {"m": sink})
    pipeline.start()
    assert pipeline.wait(10)
    once = said(sink.collector, "film")
    with pytest.raises(InputError, match="resume starts it again"):
        pipeline.pause("film")
    pipeline.resume("film")
    assert pipeline.wait(10)
    assert said(sink.collector, "film") == 2 * once  # the same ids
    assert of(pipeline, "film").received == 2 * len(once) + 2 * 2
    pipeline.stop()


def test_a_film_that_is_changed_goes_on_and_is_judged_anew_by_another_generation() -> None:
    gen, other = both(), both()
    film = Memory(script=FILM, repeat=400, in_flight=2)
    alone, sink = MemorySink(), MemorySink()
    undisturbed = Pipeline([plan("film", film, gen)], {"m": alone})
    undisturbed.start()
    assert undisturbed.wait(30)
    undisturbed.stop()
    pipeline = Pipeline([plan("film", film, gen)], {"m": sink})
    pipeline.start()
    assert until(lambda: of(pipeline, "film").results > 20)
    pipeline.change(plan("film", Memory(script=FILM, repeat=400, in_flight=7), gen))
    assert pipeline.wait(30)
    assert said(sink.collector, "film") == said(alone.collector, "film")
    pipeline.resume("film")
    assert until(lambda: of(pipeline, "film").windows > 0)
    pipeline.change(plan("film", film, other))
    assert pipeline.wait(30)
    anew = [one for one in sink.collector.results if one.generation == other.id]
    assert len(anew) == len(alone.collector.results)
    pipeline.stop()


def test_a_stream_that_is_paused_stays_so_when_it_is_changed() -> None:
    gen = both()
    pipeline = Pipeline([], {"m": MemorySink()})
    pipeline.add(plan("door", camera(), gen), paused=True)
    pipeline.start()
    assert pipeline.states == {"door": SourceState.PAUSED}
    pipeline.change(plan("door", camera(max_fps=5), gen))
    assert pipeline.states == {"door": SourceState.PAUSED}
    pipeline.change(plan("door", camera(), gen), paused=False)
    assert until(lambda: of(pipeline, "door").results > 0)
    pipeline.stop()
