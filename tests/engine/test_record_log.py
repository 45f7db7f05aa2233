"""The log under the outbox: what is whole is found, whatever lies beside it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.engine import record_log
from pipeline.engine.record_log import RecordLog


def numbers(log: RecordLog, after: int = 0) -> list[int]:
    return [record.number for record in log.read(after, 10_000, 1 << 30)]


def filled(folder: Path, count: int, size: int = 40) -> RecordLog:
    log = RecordLog(folder, sync=False)
    for n in range(1, count + 1):
        log.append([str(n).encode().ljust(size, b".")])
    return log


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


class TestWhole:
    def test_records_come_back_in_order_with_their_numbers(self, tmp_path: Path) -> None:
        log = RecordLog(tmp_path)
        log.append([b"one", b""])
        log.append([b"\xf1Thr\nthree"])
        assert [(r.number, r.data) for r in log.read(0, 10)] == [(1, b"one"), (2, b""), (3, b"\xf1Thr\nthree")]
        log.close()
        again = RecordLog(tmp_path)
        assert numbers(again) == [1, 2, 3] and again.last == 3 and not again.damages
        again.append([b"four"])
        assert numbers(again, after=2) == [3, 4]

    def test_reading_goes_on_where_it_was_and_back_where_it_is_asked_to(self, tmp_path: Path) -> None:
        log = filled(tmp_path, 20)
        assert [r.number for r in log.read(0, 5)] == [1, 2, 3, 4, 5]
        assert [r.number for r in log.read(5, 5)] == [6, 7, 8, 9, 10]
        assert [r.number for r in log.read(5, 2)] == [6, 7]
        log.append([b"more"])
        assert numbers(log, after=19) == [20, 21]

    def test_large_records_come_a_few_at_a_time(self, tmp_path: Path) -> None:
        log = filled(tmp_path, 5, size=1000)
        assert len(log.read(0, 100, most_bytes=1)) == 1
        assert len(log.read(0, 100, most_bytes=1500)) == 2

    def test_segments_go_once_nobody_needs_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(record_log, "SEGMENT", 1000)
        log = filled(tmp_path, 100)
        assert len(segments(tmp_path)) > 5
        for upto in range(1, 101):
            log.release(upto)
            assert numbers(log, after=upto) == list(range(upto + 1, 101))
        assert len(segments(tmp_path)) == 1 and log.last == 100, "the one that is written to stays"
        log.append([b"x"])
        assert numbers(log, after=100) == [101]

    def test_numbers_go_on_though_no_segment_is_left(self, tmp_path: Path) -> None:
        assert RecordLog(tmp_path, after=7).last == 7


class TestUndone:
    def test_what_cannot_be_cut_off_again_costs_nothing_that_was_accepted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = RecordLog(tmp_path)
        log.append([b"one"])

        def fails(*_: object) -> None:
            raise OSError(errno.EIO, "the disk fails")

        with monkeypatch.context() as broken:
            broken.setattr(record_log.os, "fdatasync", fails)
            broken.setattr(record_log.os, "ftruncate", fails)
            for _ in range(2):  # the second time, what is begun is empty
                with pytest.raises(OSError, match="the disk fails"):
                    log.append([b"never accepted", b"nor this"])
        log.append([b"two"])
        assert [(r.number, r.data) for r in log.read(0, 10)] == [(1, b"one"), (2, b"two")]
        log.close()
        again = RecordLog(tmp_path)
        assert [(r.number, r.data) for r in again.read(0, 10)] == [(1, b"one"), (2, b"two")]
        again.release(1)
        assert numbers(again, after=1) == [2]


class TestDamage:
    def test_what_the_disk_cannot_read_costs_what_lies_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        filled(tmp_path, 30, size=1000).close()
        pread = os.pread

        def fails(*_: object) -> bytes:
            raise OSError(errno.EIO, "the disk fails")

        monkeypatch.setattr(Path, "read_bytes", fails)
        monkeypatch.setattr(record_log.os, "pread", lambda fd, size, at: fails() if at == 8192 else pread(fd, size, at))
        log = RecordLog(tmp_path)
        lost = set(range(1, 31)) - set(numbers(log))
        assert lost == {8, 9, 10, 11, 12} and [one.torn for one in log.damages] == [False]

    @settings(max_examples=80, deadline=None)
    @given(data=st.data())
    def test_any_damage_costs_only_what_it_touches(
        self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("log")
        count = data.draw(st.integers(1, 30))
        filled(folder, count, size=data.draw(st.integers(0, 60))).close()
        (path,) = segments(folder)
        before = path.read_bytes()
        extents, place = [], 0
        for record in RecordLog(folder).read(0, 10_000):
            extents.append((record.number, place, place + 28 + len(record.data)))
            place = extents[-1][2]
        assert place == len(before)
        start = data.draw(st.integers(0, len(before) - 1))
        end = data.draw(st.integers(start + 1, len(before)))
        how = data.draw(st.sampled_from(["flip", "garbage", "cut out", "truncate", "insert"]))
        damaged = {
            "flip": before[:start] + bytes([before[start] ^ data.draw(st.integers(1, 255))]) + before[start + 1 :],
            "garbage": before[:start] + data.draw(st.binary(min_size=end - start, max_size=end - start)) + before[end:],
            "cut out": before[:start] + before[end:],
            "truncate": before[:start],
            "insert": before[:start] + data.draw(st.binary(min_size=1, max_size=50)) + before[start:],
        }[how]
        touched = (start, {"flip": start + 1, "truncate": len(before), "insert": start + 1}.get(how, end))
        path.write_bytes(damaged)
        found = RecordLog(folder)
        untouched = {number for number, begin, stop in extents if stop <= touched[0] or begin >= touched[1]}
        kept = numbers(found)
        assert untouched <= set(kept) and kept == sorted(set(kept))
        assert all(record.data in before for record in found.read(0, 10_000))
        again = RecordLog(folder)
        assert numbers(again) == kept and not again.damages, "what was cut out is not met again"

    def test_what_was_set_aside_is_named_and_there(self, tmp_path: Path) -> None:
        filled(tmp_path, 3).close()
        (path,) = segments(tmp_path)
        before = path.read_bytes()
        path.write_bytes(before[:70] + b"\0" * 20 + before[90:])
        log = RecordLog(tmp_path)
        assert numbers(log) == [1, 3]
        (damage,) = log.damages
        assert (damage.segment, damage.start, damage.size, damage.torn) == (path, 68, 68, False)
        assert damage.aside.read_bytes() == before[68:70] + b"\0" * 20 + before[90:136]

    def test_an_unfinished_write_is_told_from_damage(self, tmp_path: Path) -> None:
        filled(tmp_path, 3).close()
        (path,) = segments(tmp_path)
        path.write_bytes(path.read_bytes()[:-5])
        log = RecordLog(tmp_path)
        assert numbers(log) == [1, 2] and [damage.torn for damage in log.damages] == [True]

    def test_damage_in_the_midst_of_a_run_is_passed_over(self, tmp_path: Path) -> None:
        log = filled(tmp_path, 9)
        assert [r.number for r in log.read(0, 2)] == [1, 2]
        (path,) = segments(tmp_path)
        data = bytearray(path.read_bytes())
        data[68 * 4 + 40] ^= 1
        path.write_bytes(data)
        assert numbers(log, after=2) == [3, 4, 6, 7, 8, 9]

    def test_a_segment_of_nothing_but_nonsense(self, tmp_path: Path) -> None:
        (tmp_path / f"{1:020d}.log").write_bytes(b"nonsense" * 1000)
        log = RecordLog(tmp_path)
        assert numbers(log) == [] and len(log.damages) == 1
        log.append([b"x"])
        assert numbers(log) == [1]


FULL = """
import resource, sys
from pathlib import Path
from pipeline.engine.record_log import RecordLog
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
log = RecordLog(Path(sys.argv[1]))
written = refused = 0
for n in range(100):
    try:
        log.append([b"%d-%d" % (n, m) for m in range(10)])
        written += 10
    except OSError as error:
        refused += 1
        if refused == 3:
            break
print(written, log.last)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append([b"room again"])
"""


def test_what_does_not_fit_is_taken_back_whole(tmp_path: Path) -> None:
    said = subprocess.run([sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True, check=True)
    written, last = map(int, said.stdout.split())
    assert written == last > 0 and written % 10 == 0
    log = RecordLog(tmp_path)
    assert numbers(log) == list(range(1, last + 2)) and not log.damages
    assert log.read(last, 1)[0].data == b"room again"
