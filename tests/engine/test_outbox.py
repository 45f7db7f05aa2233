"""Accepted means on the disk; the ledger adds up whatever happens."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.contracts import OutboxSettings
from pipeline.core.errors import InputError, SinkBusy, SinkRefused
from pipeline.engine import record_log
from pipeline.engine.outbox import Outbox, dead_letters, seen
from tests.engine.remote_parts import letter

ROOT = Path(__file__).parents[2]


def opened(folder: Path, **settings: Any) -> Outbox:
    return Outbox(folder, OutboxSettings(sync=False, **settings))


def taken(box: Outbox, most: int = 1000) -> list[int]:
    return [int(one.about.rpartition("/")[2]) for _, one in box.take(most, 0.0)]


def drained(box: Outbox) -> list[int]:
    """All that is left, as a receiver gets it."""
    out: list[int] = []
    while found := box.take(7, 0.0):
        out += (int(one.about.rpartition("/")[2]) for _, one in found)
        box.delivered(found[-1][0])
    return out


def adds_up(box: Outbox) -> bool:
    said = box.snapshot()
    settled = said.delivered + said.refused + said.expired + said.dropped + said.damaged
    return said.accepted == settled + said.waiting and said.waiting >= 0


def test_what_waits_survives_and_goes_in_order(tmp_path: Path) -> None:
    box = opened(tmp_path / "new" / "box")
    box.accept([letter(n) for n in range(5)])
    assert taken(box) == [0, 1, 2, 3, 4] == taken(box), "it stays until it is settled"
    box.delivered(2)
    box.close()
    box = opened(tmp_path / "new" / "box")
    assert taken(box) == [2, 3, 4] and box.waiting == 3
    whole = box.take(1, 0.0)[0][1]
    assert whole == letter(2)


def test_only_one_process_has_it(tmp_path: Path) -> None:
    box = opened(tmp_path)
    with pytest.raises(InputError, match="another run, or another sink"):
        opened(tmp_path)
    box.close()
    box.close()
    opened(tmp_path).close()


def test_a_folder_that_cannot_be_one_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used as an outbox"):
        opened(tmp_path / "file")


def test_nothing_is_accepted_into_a_folder_that_is_gone(tmp_path: Path) -> None:
    box = opened(tmp_path / "box")
    box.accept([letter(1)])
    (tmp_path / "box").rename(tmp_path / "aside")
    with pytest.raises(SinkBusy, match="removed or moved"):
        box.accept([letter(2)])
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "lock").touch()  # somebody else's
    with pytest.raises(SinkBusy, match="removed or moved"):
        box.accept([letter(2)])
    shutil.rmtree(tmp_path / "box")
    (tmp_path / "aside").rename(tmp_path / "box")
    box.accept([letter(2)])
    assert drained(box) == [1, 2]
    box.close()


def test_a_look_shows_what_somebody_else_has_and_makes_nothing(tmp_path: Path) -> None:
    assert seen(tmp_path / "none").accepted == 0
    assert not (tmp_path / "none").exists()
    box = opened(tmp_path / "box")
    box.accept([letter(n) for n in range(5)])
    box.delivered(box.take(2, 0.0)[-1][0])
    said = seen(tmp_path / "box")
    assert (said.accepted, said.delivered, said.waiting) == (5, 2, 3) and said.bytes > 0
    assert replace(said, oldest_s=0.0) == replace(box.snapshot(), oldest_s=0.0)
    box.accept([letter(6)])  # it was not disturbed
    box.close()
    assert seen(tmp_path / "box").waiting == 4


def test_full_waits_or_drops_the_oldest_as_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_log, "SEGMENT", 300_000)
    for policy in ("wait", "drop_oldest"):
        box = opened(tmp_path / policy, max_mb=1, when_full=policy)
        refused = 0
        for n in range(30):
            try:
                box.accept([letter(n, size=100_000)])
            except SinkBusy:
                refused += 1
        said = box.snapshot()
        assert said.bytes <= 1 << 20 and adds_up(box)
        if policy == "wait":
            assert refused and not said.dropped and taken(box)[0] == 0
            box.delivered(3)
            box.accept([letter(31, size=100_000)])
        else:
            assert not refused and said.dropped == 30 - said.waiting and taken(box, 1000)[0] == said.dropped


def test_what_has_arrived_takes_no_room_from_what_waits(tmp_path: Path) -> None:
    box = opened(tmp_path, max_mb=1, when_full="drop_oldest")
    for n in range(400):  # ten times as much as there is room for
        box.accept([letter(n, size=25_000)])
        if n:
            assert taken(box, 2) == [n - 1, n]
            box.delivered(n)  # all but the last
    said = box.snapshot()
    assert said.dropped == 0 and said.waiting == 1 and said.bytes < 1 << 18


def test_what_is_deleted_was_settled_also_for_a_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Outbox(tmp_path, OutboxSettings(max_mb=1))
    cursor, fdatasync = tmp_path / "cursor", os.fdatasync
    kept: list[bytes] = []

    def syncs(fd: int) -> None:
        fdatasync(fd)
        kept[:] = [cursor.read_bytes()]  # as good as that: what was not asked for is gone

    monkeypatch.setattr("pipeline.engine.outbox.os.fdatasync", lambda fd: syncs(fd) if fd == box._cursor else None)
    for n in range(30):
        box.accept([letter(n, size=60_000)])
        box.delivered(n)
    box.close()
    cursor.write_bytes(kept[0])
    box = opened(tmp_path)
    drained(box)
    assert box.snapshot().damaged == 0 and adds_up(box)


def test_what_the_log_has_is_accepted_though_the_ledger_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = opened(tmp_path)
    pwrite = os.pwrite

    def fails(fd: int, data: bytes, at: int) -> int:
        if fd == box._cursor:
            raise OSError(28, "no space")
        return pwrite(fd, data, at)

    with monkeypatch.context() as broken:
        broken.setattr("pipeline.engine.outbox.os.pwrite", fails)
        box.accept([letter(0)])
    assert box.snapshot().accepted == 1 and adds_up(box)
    box.close()
    assert taken(opened(tmp_path)) == [0]


def test_what_is_larger_than_any_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkRefused, match="1 MiB"):
        opened(tmp_path, max_mb=1).accept([letter(0), letter(1, size=2 << 20)])


def test_what_waits_too_long_expires_and_a_leaping_clock_expires_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = opened(tmp_path, max_age_h=1)
    box.accept([letter(0)])
    monkeypatch.setattr(time, "time_ns", lambda now=time.time_ns: now() + 10**9 * 3600 * 1000)
    assert taken(box) == [0], "the clock leapt"
    ahead, monotonic = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + ahead[0])
    ahead[0] = 4000.0
    assert taken(box) == [] and box.snapshot().expired == 1 and adds_up(box)
    box.close()


def test_age_goes_on_while_the_program_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = opened(tmp_path, max_age_h=1)
    box.accept([letter(0)])
    box.close()
    later = time.time_ns() + 10**9 * 4000
    monkeypatch.setattr(time, "time_ns", lambda: later)
    box = opened(tmp_path, max_age_h=1)
    box.accept([letter(1)])
    assert taken(box) == [1] and box.snapshot().expired == 1


def test_dead_letters_keep_what_was_refused_and_why_and_live_again(tmp_path: Path) -> None:
    box = opened(tmp_path)
    odd = letter(0).__class__("a/b/0:x", "outcome", "a/b/0", "a", '{"text":"\\udc80 ü"}'.encode())
    box.accept([odd, letter(1)])
    ((number, first), _) = box.take(2, 0.0)
    box.refused(number, first, "410 Gone")
    assert dead_letters(tmp_path) == [(odd, "410 Gone")] and taken(box) == [1]
    with (tmp_path / "dead.jsonl").open("ab") as file:
        file.write(b"{nonsense\n[]\n")
    assert box.revive() == 1 and dead_letters(tmp_path) == []
    assert [one.id for _, one in box.take(5, 0.0)] == [letter(1).id, odd.id] and adds_up(box)


class TestDamage:
    def test_the_start_goes_on_and_names_what_it_set_aside(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        box = opened(tmp_path)
        box.accept([letter(n) for n in range(10)])
        box.delivered(2)
        box.close()
        (path,) = tmp_path.glob("*.log")
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
        with caplog.at_level(logging.WARNING):
            box = opened(tmp_path)
            kept = drained(box)
        assert len(kept) == 7 and kept[0] == 2 and kept[-1] == 9
        assert box.snapshot().damaged == 1 and adds_up(box)
        assert path.name in caplog.text and "damaged/" in caplog.text and "1 letters were lost" in caplog.text

    def test_letters_cut_off_at_the_end_are_missed(self, tmp_path: Path) -> None:
        box = opened(tmp_path)
        box.accept([letter(n) for n in range(10)])
        box.close()
        (path,) = tmp_path.glob("*.log")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        box = opened(tmp_path)
        box.accept([letter(99)])
        kept = drained(box)
        said = box.snapshot()
        assert kept[:3] == [0, 1, 2] and kept[-1] == 99
        assert said.accepted == 11 and said.damaged == 11 - len(kept) > 0 and adds_up(box)

    @pytest.mark.parametrize("how", [b"", b"\0" * 8192, b"nonsense" * 1000])
    def test_a_lost_ledger_sends_again_rather_than_never(self, tmp_path: Path, how: bytes) -> None:
        box = opened(tmp_path)
        box.accept([letter(n) for n in range(4)])
        box.delivered(2)
        box.close()
        (tmp_path / "cursor").write_bytes(how)
        box = opened(tmp_path)
        assert taken(box) == [0, 1, 2, 3] and adds_up(box)

    def test_one_torn_slot_of_the_ledger_costs_one_step(self, tmp_path: Path) -> None:
        box = opened(tmp_path)
        box.accept([letter(n) for n in range(4)])
        box.delivered(1)
        box.delivered(2)
        box.close()
        for slot in (0, 4096):
            data = bytearray((tmp_path / "cursor").read_bytes())
            data[slot + 9] ^= 1
            (tmp_path / "torn").mkdir(exist_ok=True)
            for path in tmp_path.glob("*.log"):
                (tmp_path / "torn" / path.name).write_bytes(path.read_bytes())
            (tmp_path / "torn" / "cursor").write_bytes(data)
            box = opened(tmp_path / "torn")
            assert taken(box)[0] in {1, 2} and adds_up(box)
            box.close()

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_the_ledger_adds_up_whatever_is_done_to_the_files(
        self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("box")
        box, accepted, out, told = opened(folder), 0, Counter[int](), 0
        for _ in range(data.draw(st.integers(1, 12))):
            match data.draw(st.sampled_from(["accept", "deliver", "refuse", "reopen", "damage"])):
                case "accept":
                    count = data.draw(st.integers(1, 5))
                    box.accept([letter(accepted + n) for n in range(count)])
                    accepted += count
                case "deliver" if found := box.take(data.draw(st.integers(1, 5)), 0.0):
                    out.update(int(one.about.rpartition("/")[2]) for _, one in found)
                    box.delivered(found[-1][0])
                case "refuse" if found := box.take(1, 0.0):
                    box.refused(*found[0], "no")
                    out[int(found[0][1].about.rpartition("/")[2])] += 1
                case "reopen" | "damage" as step:
                    box.close()
                    for path in sorted(folder.glob("*.log")) if step == "damage" else ():
                        if spoilt := bytearray(path.read_bytes()):
                            spoilt[data.draw(st.integers(0, len(spoilt) - 1))] ^= data.draw(st.integers(1, 255))
                            path.write_bytes(spoilt)
                            told += 1
                    box = opened(folder)
            assert adds_up(box)
        out.update(drained(box))
        said = box.snapshot()
        assert adds_up(box) and said.waiting == 0 and said.damaged <= told
        assert all(count == 1 for count in out.values()) and len(out) == accepted - said.damaged
        box.close()


ACCEPT_FOR_EVER = """
import sys
from itertools import count
from pathlib import Path
from pipeline.core.contracts import OutboxSettings
from pipeline.engine.outbox import Outbox
from tests.engine.remote_parts import letter
box = Outbox(Path(sys.argv[1]), OutboxSettings())
first = int(sys.argv[2])
for batch in count():
    box.accept([letter(first + batch * 7 + n, size=300) for n in range(7)])
    print(first + batch * 7 + 7, flush=True)
    if batch % 3 == 2:
        found = box.take(5, 0.0)
        print("out", *(one.about.rpartition("/")[2] for _, one in found), flush=True)
        box.delivered(found[-1][0])
"""


def test_what_was_accepted_survives_kill_9(tmp_path: Path) -> None:
    accepted, out = 0, Counter[int]()
    chance = random.Random(7)
    for _ in range(6):
        command = [sys.executable, "-c", ACCEPT_FOR_EVER, tmp_path / "box", str(accepted)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline()]
            time.sleep(chance.uniform(0.0, 0.2))
            os.kill(child.pid, signal.SIGKILL)
            lines += child.stdout.read().splitlines()
        for line in filter(str.strip, lines):
            if line.startswith("out"):
                out.update(map(int, line.split()[1:]))
            elif line.strip().isdigit():
                accepted = int(line)
        box = opened(tmp_path / "box")
        there = {int(one.about.rpartition("/")[2]) for _, one in box.take(1_000_000, 0.0)}
        assert set(range(accepted)) <= there | set(out), "accepted, and gone"
        accepted = max([accepted, *(n + 1 for n in there)])
        assert adds_up(box) and not box.snapshot().damaged
        box.close()
    assert accepted > 50 and out


def test_the_dead_letters_are_lines_that_a_person_can_read(tmp_path: Path) -> None:
    box = opened(tmp_path)
    box.accept([letter(0)])
    box.refused(*box.take(1, 0.0)[0], "too large")
    (line,) = (tmp_path / "dead.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "too large" and json.loads(line)["about"] == "door/E/0"
