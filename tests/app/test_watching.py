"""The pipeline from Python."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import watch
from pipeline.core.errors import InputError, InputErrors
from pipeline.core.records import Event, Outcome, Result

CLIP = "tests/data/bikes.mp4"
pytestmark = pytest.mark.slow


def ours() -> set[str]:
    """The threads that run, but for those that live as long as the process does."""
    return {one.name for one in threading.enumerate() if one is not threading.main_thread()} - {"network", "asyncio_0"}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = ours()
    yield
    end_s = time.monotonic() + 10
    while (left := ours() - before) and time.monotonic() < end_s:
        time.sleep(0.02)
    assert not left


@pytest.fixture
def messages(tmp_path: Path) -> dict[str, Any]:
    """A config of 2,000 messages in a file, which are judged quickly."""
    path = tmp_path / "said.txt"
    path.write_text("".join(f"good morning number {n}, how is the stream\n" for n in range(2000)))
    return {"sources": {"said": {"kind": "lines", "path": str(path)}}, "cascade": "chat"}


def test_a_loop_sees_every_result_of_a_file_in_order_and_ends() -> None:
    results = list(watch(CLIP))
    assert results and all(isinstance(one, Result) for one in results)
    assert [one.window.seq for one in results] == list(range(len(results)))
    assert any(found.label == "person" and found.box for one in results for found in one.detections)


def test_nothing_runs_before_it_is_read_and_nothing_after_the_loop_is_left() -> None:
    before = ours()
    watched = watch(CLIP)
    assert ours() == before
    for result in watched:
        assert "stage" not in result.decided_by
        assert watched.snapshot().streams[0].stream == "bikes"
        break
    with pytest.raises(RuntimeError, match="it was closed"):
        next(iter(watched))


def test_an_exception_in_the_loop_ends_it_too() -> None:
    def stumble() -> None:
        for _ in watch(CLIP):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stumble()


def test_inside_of_with_reading_goes_on_after_a_break(messages: dict[str, Any]) -> None:
    with watch(messages) as watched:
        first = next(iter(watched))
        rest = list(watched)
        assert first.window.seq < rest[0].window.seq and rest[-1].window.seq == 1999
        assert list(watched) == [], "it has ended"
        assert watched.dropped == 0
        assert watched.snapshot().streams[0].results == 2000


def test_who_reads_slowly_holds_a_file_and_loses_nothing(messages: dict[str, Any]) -> None:
    with watch(messages) as watched:
        reading = iter(watched)
        got = [next(reading).window.seq]
        time.sleep(1.0)
        in_hand = watched.snapshot().streams[0].results
        assert in_hand < 2000, "the file was held"
        got += [one.window.seq for one in reading]
        assert got == list(range(2000)) and watched.dropped == 0


def test_of_a_live_stream_the_oldest_go_and_are_counted() -> None:
    live = {"sources": {"live": {"kind": "pattern", "fps": 30}}, "cascade": "people"}
    with watch(live, pictures=True) as watched:
        reading = iter(watched)
        got = [next(reading)[0].window.seq]
        end_s = time.monotonic() + 60
        while not watched.dropped and time.monotonic() < end_s:
            time.sleep(0.1)
        assert watched.dropped > 0
        got += [next(reading)[0].window.seq for _ in range(30)]
        assert got == sorted(set(got)), "in order, none twice"
        assert got[-1] - got[0] > 30, "some are missing"


def test_events_and_outcomes_can_be_read_beside_the_results(messages: dict[str, Any]) -> None:
    events = list(watch(CLIP).events())
    assert events and all(isinstance(one, Event) for one in events)
    assert {one.kind for one in events} >= {"new", "end"}
    outcomes = list(watch(messages).outcomes())
    assert len(outcomes) == 2000 and all(isinstance(one, Outcome) for one in outcomes)


def test_a_result_comes_with_its_picture() -> None:
    count = 0
    for result, picture in watch(CLIP, pictures=True, overrides={"sources.bikes.max_fps": 2}):
        count += 1
        assert picture is not None
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        for one in result.detections:
            assert one.box is not None and one.box[2] <= picture.shape[1] + 1
    assert count > 3


def test_async_for_reads_all_and_leaves_the_loop_free(messages: dict[str, Any]) -> None:
    async def main() -> tuple[list[int], int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        seqs = [result.window.seq async for result in watch(messages)]
        ticking.cancel()
        return seqs, ticks

    seqs, ticks = asyncio.run(main())
    assert seqs == list(range(2000)) and ticks > 5


def test_a_task_that_is_cancelled_ends_it(messages: dict[str, Any]) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in watch(messages):
                begun.set()
                await asyncio.sleep(0.01)

        reading = asyncio.create_task(read())
        await begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        early = asyncio.create_task(read())
        await asyncio.sleep(0)  # while it starts
        early.cancel()
        with pytest.raises(asyncio.CancelledError):
            await early

    asyncio.run(main())


def test_a_break_in_async_for_ends_it(messages: dict[str, Any]) -> None:
    async def main() -> None:
        async for result in watch(messages):
            assert result.window.seq == 0
            break
        async with watch(messages) as watched:
            async for _ in watched:
                break
            assert watched.snapshot().ready

    asyncio.run(main())


def test_a_plain_loop_works_where_an_event_loop_runs_already(messages: dict[str, Any]) -> None:
    async def notebook() -> int:
        return sum(1 for _ in watch(messages))

    assert asyncio.run(notebook()) == 2000


def test_streams_come_and_go_while_it_is_read(messages: dict[str, Any], tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("hello there\n" * 20)
    with watch(messages) as watched:
        assert watched.add(more) == "more"
        with pytest.raises(InputError, match="already"):
            watched.add(more, name="more")
        assert watched.add({"kind": "lines", "path": str(more)}, name="third") == "third"
        reading = iter(watched)
        assert {next(reading).window.stream for _ in range(2)} <= {"said", "more", "third"}
        watched.remove("said")
        rest = [one.window.stream for one in reading]
        assert rest.count("third") >= 18 and rest.count("said") < 2000
        assert {one.stream for one in watched.snapshot().streams} == {"more", "third"}


def test_what_can_never_work_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        watch("nowhere.mp4")
    with pytest.raises(InputErrors):
        list(watch({"sources": {"a": {"kind": "file"}, "b": {"kind": "film"}}}))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film at all" * 100)
    with pytest.raises(InputError, match="broken"):
        list(watch(broken))


def test_it_is_imported_where_it_is_asked_for() -> None:
    code = (
        "import pipeline, sys; print([m for m in sys.modules if m.startswith('pipeline.')]); pipeline.watch; print(1)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split("\n")[:2] == ["[]", "1"]


def test_the_readmes_words_run(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly what the README says, between `## From Python` and the next heading."""
    readme = (project / "README.md").read_text()
    section = readme.partition("## From Python\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert blocks, "the README has no such section"
    (tmp_path / "clip.mp4").write_bytes((project / CLIP).read_bytes())
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        code = compile(block, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        waits = eval(code, {"__name__": "notebook"})  # as a notebook runs a cell
        if waits is not None:
            asyncio.run(waits)
