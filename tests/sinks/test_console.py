from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console as Terminal

from pipeline.core.contracts import Observer
from pipeline.core.outages import Outage
from pipeline.core.records import Event, SourceState
from pipeline.core.rulings import Ruling
from pipeline.core.snapshot import Latency, PolicySnapshot, SinkSnapshot, Snapshot, StageSnapshot, StreamSnapshot
from sinks.console import Console
from sinks.console_view import render, status_line
from sinks.wording import duration, missed, ruled, sentence, shares
from tests.contracts.sink_suite import NOON, event, person, ruling

ROOT = Path(__file__).parents[2]


def stream(name: str = "door", state: SourceState = SourceState.LIVE, **fields: Any) -> StreamSnapshot:
    usual: dict[str, Any] = {
        "cascade": "people",
        "detail": "",
        "received_per_s": 25.0,
        "outcomes_per_s": 24.9,
        "flagged": 132,
        "in_flight": 2,
        "connects": 1,
        "decided_by": {"motion": 330, "ssdlite": 610, "resnet": 60},
        "latency": Latency(1000, 10.0, 7.42, 12.0, 31.2, 55.0),
    }
    counts = ("received", "decoding", "sampled_out", "damaged", "undecoded", "windows", "results", "failed")
    known = [count for count in counts if count in StreamSnapshot.__dataclass_fields__]
    return StreamSnapshot(stream=name, state=state, **dict.fromkeys(known, 0) | usual | fields)


def snapshot(*streams: StreamSnapshot, **fields: Any) -> Snapshot:
    usual: dict[str, Any] = {
        "elapsed_s": 83.0,
        "ready": True,
        "stages": (
            StageSnapshot("people", "ssdlite", "people@1", 3, 100, 240, 0, 0.43, Latency(100, 1, 12, 14, 49, 60)),
        ),
        "sinks": (SinkSnapshot("log", "ok", "", 0, 12345, 0, 0, 0),),
        "latency": Latency(1000, 10.0, 7.9, 12.0, 32.0, 55.0),
        "cpu_percent": 143.2,
        "rss_bytes": 412 * 2**20,
    }
    return Snapshot(streams=streams, **usual | fields)


def drawn(shown: Snapshot, events: list[Event | Ruling] | None = None, width: int = 80, height: int = 24) -> list[str]:
    terminal = Terminal(file=io.StringIO(), width=width, height=height, color_system=None)
    with terminal.capture() as capture:
        terminal.print(render(shown, events or [], width, height))
    return capture.get().splitlines()


def words(line: str) -> str:
    return " ".join(line.split())


def line_of(lines: list[str], word: str) -> str:
    return next(line for line in lines if word in line)


def at(seconds: float) -> str:
    return f"{datetime.fromtimestamp(NOON // 10**9 + int(seconds)):%H:%M:%S}"


def happened(kind: Any, until_s: float, count: int, label: str = "person") -> Event:
    end = int(until_s * 1e9)
    return Event("id", kind, "door", label, 0, end, NOON, NOON + end, 9, count, person())


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (happened("end", 27, 4), f"person, {at(0)} to {at(27)} (up to 4 at once)"),
        (happened("end", 27, 1), f"person, {at(0)} to {at(27)}"),
        (happened("end", 0.4, 1), f"person at {at(0)}"),
        (happened("new", 0.4, 1), f"person since {at(0)}"),
        (happened("update", 9, 2), f"person since {at(0)} (up to 2 at once)"),
        (happened("end", 27, 1, "a\x1b[31m\nb"), f"a [31m b, {at(0)} to {at(27)}"),
    ],
)
def test_an_event_is_a_sentence(what: Event, said: str) -> None:
    assert sentence(what) == said


def test_a_ruling_is_a_sentence_too() -> None:
    assert ruled(ruling("new")) == f"block chat, door since {at(0)} (hate: haine – 憎 0.93 in chat)"
    assert ruled(ruling("end", 7)) == f"block chat, door, {at(0)} to {at(7)} (hate)"


def test_an_outage_is_a_sentence_and_a_line_of_the_table() -> None:
    outage = Outage("door", "lost", NOON + 4_000_000_000, NOON + 31_000_000_000)
    assert missed(outage) == f"nothing received, {at(4)} to {at(31)} (0:27): the connection was lost"
    assert words(drawn(snapshot(stream()), [outage], width=100)[-1]).startswith(f"○ {at(31)} door: nothing received,")


def test_the_table_says_what_the_policy_has_going() -> None:
    policy = PolicySnapshot("evening", {"hate": "block"}, {"block": 3, "mute": 1}, 2, 0, 0, Latency(4, 1, 7, 9, 49, 60))
    lines = drawn(snapshot(stream(), policy=policy), [ruling("new")], width=100)
    assert words(line_of(lines, "policy")) == "policy evening block (hate) so far 3 block, 1 mute P99 49 ms 2 late"
    assert words(lines[-1]) == f"● {at(0)} evening: block chat, door since {at(0)} (hate: haine – 憎 0.93 in chat)"
    quiet = drawn(snapshot(stream(), policy=PolicySnapshot("evening", {}, {}, 0, 0, 0)))
    assert words(line_of(quiet, "policy")) == "policy evening nothing to do"


def test_figures_are_worded_so_that_they_do_not_mislead() -> None:
    assert shares({"cheap": 9999, "heavy": 1, "gate": 0}) == [("cheap", ">99 %"), ("heavy", "<1 %")]
    assert shares({"only": 3}) == [("only", "100 %")]
    assert shares({}) == []
    assert (duration(83), duration(7205)) == ("1:23", "2:00:05")


def test_a_stream_is_one_line_that_fits_80_columns() -> None:
    lines = drawn(snapshot(stream()), [event("end", 700)])
    assert words(lines[0]) == "thresher 1:23 24.9 frames/s P50 7.9 ms P99 32 ms CPU 143 % 412 MiB"
    assert words(lines[2]) == "stream state in/s P50 P99 ssdlite motion resnet flagged"
    assert words(lines[3]) == "door live 24.9 7.4 31 61 % 33 % 6 % 132"
    assert words(line_of(lines, " 43 %")) == "ssdlite 2.4 12 49 3 43 % 0"
    assert words(line_of(lines, "log")) == "sinks log 12,345"
    assert lines[-1] == f"○ {at(28)} door: person, {at(0)} to {at(28)} (up to 2 at once)"
    assert words(drawn(snapshot(stream()), width=150)[2]) == (
        "stream state in/s P50 ms P99 ms in flight frames ssdlite motion resnet flagged"
    )


def test_long_names_give_way_to_figures() -> None:
    shown = snapshot(stream("the-camera-above-the-northern-entrance", SourceState.CONNECTING))
    row = line_of(drawn(shown), "connecting")
    assert "…" in row
    assert row.rstrip().endswith("132") and " 61 % " in row and " 24.9 " in row


def test_what_went_wrong_is_said() -> None:
    lines = drawn(
        snapshot(
            stream("yard", SourceState.CONNECTING, detail="connection refused", latency=Latency(), decided_by={}),
            stream("gate", shed={"overload": 1200, "deadline": 0}, damaged=3, failed=1),
            sinks=(SinkSnapshot("db", "busy", "database is locked", 312, 12000, 4, 0, 3),),
            ready=False,
        )
    )
    assert "warming up" in lines[0]
    assert line_of(lines, "connecting").split()[:3] == ["yard", "connecting", "24.9"]
    assert "  yard: connection refused" in lines
    assert "  gate: lost 1,200 overload, 1 failed, 3 damaged" in lines
    assert "db 12,000 busy: database is locked, 312 waiting, 4 dropped" in line_of(lines, "sinks")


@pytest.mark.parametrize("count", [1, 7, 50])
def test_it_is_never_higher_than_the_terminal(count: int) -> None:
    streams = [stream(f"camera-{n}", shed={"overload": n}) for n in range(count)]
    streams[count // 2] = stream("broken", SourceState.FAILED, detail="no such file")
    lines = drawn(snapshot(*streams), [event("end", n, f"id-{n}") for n in range(5)], height=30)
    assert len(lines) < 30
    assert any(line.startswith("broken") for line in lines)  # trouble is shown first
    shown = sum(line.startswith("camera-") for line in lines)
    if count == 50:
        assert f"… and {49 - shown} more ({49 - shown} live)" in lines
    else:
        assert shown == count - 1


@settings(deadline=None, max_examples=60)
@given(
    name=st.text(max_size=80),
    width=st.integers(30, 200),
    height=st.integers(5, 60),
    count=st.integers(0, 60),
    state=st.sampled_from(SourceState),
)
def test_any_snapshot_can_be_drawn(name: str, width: int, height: int, count: int, state: SourceState) -> None:
    shown = snapshot(*(stream(f"{name}{n}", state, detail=name, decided_by={name: n}) for n in range(count)))
    lines = drawn(shown, [happened("end", 1, 1, name)], width, height)
    assert not any("\x1b" in line or "\x07" in line for line in lines)
    assert status_line(shown).isprintable() or not name.isprintable()


def test_the_status_line_says_it_all() -> None:
    shown = snapshot(
        stream(shed={"overload": 12}),
        stream("yard", SourceState.CONNECTING, outcomes_per_s=0.0, flagged=0, decided_by={}),
        sinks=(SinkSnapshot("db", "ok", "", 0, 12000, 4, 0, 3),),
    )
    assert status_line(shown) == (
        "1:23 · 1 live, 1 connecting · 24.9 frames/s · P50 7.9 ms, P99 32 ms · ssdlite 61 %, motion 33 %, resnet 6 % · "
        "132 flagged · lost: 12 overload · db 4 dropped · CPU 143 %, 412 MiB"
    )


RUN = """
import json, sys
from sinks.console import Console
from tests.contracts.sink_suite import event, ruling
from tests.sinks.test_console import snapshot, stream
writer = Console(**json.loads(sys.argv[1])).open()
writer.write([event("new"), event("update", 700), event("end", 700), ruling("update"), ruling("end", 7)])
writer.observe(snapshot(stream()))
print("something else", file=sys.stderr)
writer.write([event("new", name="b")])
writer.observe(snapshot(stream(received=777)))
writer.close()
writer.close()
writer.observe(snapshot(stream()))
"""


def test_away_from_a_terminal_events_are_lines_and_the_state_goes_to_standard_error() -> None:
    run = subprocess.run([sys.executable, "-c", RUN, "{}"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [
        f"door: person since {at(0)} (up to 2 at once)",
        f"door: person, {at(0)} to {at(28)} (up to 2 at once)",
        f"evening: block chat, door, {at(0)} to {at(7)} (hate)",
        f"door: person since {at(0)} (up to 2 at once)",
    ]
    assert run.stderr.splitlines() == ["something else", status_line(snapshot(stream(received=777)))]


def test_standard_output_can_be_kept_clean() -> None:
    for options in ('{"stream": "stderr"}', '{"stream": "stderr", "mode": "table"}'):
        run = subprocess.run([sys.executable, "-c", RUN, options], cwd=ROOT, capture_output=True, text=True, check=True)
        assert run.stdout == ""
        assert "door" in run.stderr


def on_terminal(term: str) -> str:
    """What a terminal of 80×24 is sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "{}"],
        cwd=ROOT,
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env=environment | {"TERM": term},
    ) as child:
        os.close(theirs)
        sent = b""
        while True:
            try:
                sent += os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is gone
                break
    os.close(ours)
    assert child.returncode == 0
    return sent.decode()


def test_on_a_terminal_it_is_a_table_drawn_in_place() -> None:
    sent = on_terminal("xterm-256color")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent)
    assert plain.count("stream") >= 2  # drawn again …
    assert "\x1b[1A" in sent  # … over itself
    assert "something else" in plain
    assert sent.rindex("\x1b[?25h") > sent.rindex("\x1b[?25l")  # the cursor is back


def test_a_terminal_that_cannot_move_gets_lines() -> None:
    sent = on_terminal("dumb")
    assert "\x1b" not in sent
    assert "door: person, " in sent


def test_a_reader_that_left_is_no_accident() -> None:
    script = """
import sys
from pipeline.core.errors import SinkRefused
from sinks.console import Console
from tests.contracts.sink_suite import event
sys.stdin.read()
try:
    Console().open().write([event("new")])
except SinkRefused as error:
    print(error, file=sys.stderr)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        child.stdout.close()
        child.stdin.close()
        assert child.stderr.readline() == "the console cannot be written: [Errno 32] Broken pipe\n"
        child.stderr.read()


def test_both_forms_observe() -> None:
    for mode in ("table", "lines"):
        assert isinstance(Console.model_validate({"mode": mode}).open(), Observer)
