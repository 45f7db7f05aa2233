"""Lines of files, of files that grow, of pipes and of standard input."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.core.errors import InputError
from pipeline.core.records import Chunk, Gap, Item, Watermark
from pipeline.core.text import Text
from sources.lines import Lines
from tests.contracts import source_suite as suite


def said(items: list[Item]) -> list[str]:
    return [c.payload.raw for c in suite.chunks(items) if isinstance(c.payload, Text)]


def file(tmp_path: Path, content: str | bytes, name: str = "chat.log") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_contract(tmp_path: Path) -> None:
    plan = Lines(path=str(file(tmp_path, "one\n\nzwei\r\nтри\n四")))
    suite.check_plan(plan)
    suite.check_closing(plan)
    _, items = suite.read(plan)
    suite.check_items(items, received=4)
    suite.check_replay(plan)
    assert said(items) == ["one", "zwei\r", "три", "四"]
    assert not plan.live and not plan.paced and plan.medium == "text"
    assert [c.pts_ns for c in suite.chunks(items)] == [0, 1_000_000_000, 2_000_000_000, 3_000_000_000]


def test_the_epoch_is_the_content(tmp_path: Path) -> None:
    epochs = [suite.read(Lines(path=str(file(tmp_path, text))))[0] for text in ("a\n", "b\n", "a\n")]
    assert epochs[0] == epochs[2] != epochs[1]


def test_bad_lines_are_counted_and_the_others_go_on(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbfgood\n\xff\xfe\xfd\n" + b"x" * 10_000_000 + b"\nbest\n" + b"y" * 70_000
    _, items = suite.read(Lines(path=str(file(tmp_path, content))))
    suite.check_items(items, received=5, intact=False)
    assert said(items) == ["good", "best"] and suite.gaps(items, "damaged") == 3


def test_ten_megabytes_in_a_line_are_never_held(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from sources.lines import Lines; reader = Lines(path=sys.argv[1]).open('x')\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(sum(getattr(item, 'count', 1) for item in reader),"
        " resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    path = file(tmp_path, b"ok\n" + b"x" * 50_000_000 + b"\nok\n")
    ran = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    received, grown_kb = map(int, ran.stdout.split())
    assert received == 3 and grown_kb < 5000


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no line that can be read: UTF-8"):
        suite.read(Lines(path=str(file(tmp_path, b"\xff\xd8\xff\xe0\n\xff\n"))))
    assert suite.read(Lines(path=str(file(tmp_path, b""))))[1] == []
    with pytest.raises(InputError, match="is a folder"):
        Lines(path=str(tmp_path)).check()
    with pytest.raises(InputError, match="no such file"):
        Lines(path=str(tmp_path / "gone")).check()
    with pytest.raises(InputError, match="followed anyway"):
        Lines(follow=True).check()


def test_a_pipe_ends_with_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    plan = Lines(path=str(tmp_path / "pipe"))
    with closing(plan.open(suite.STREAM)) as reader:
        rest = iter(reader)
        assert isinstance(next(rest), Watermark)  # nobody writes yet
        with (tmp_path / "pipe").open("w") as pipe:
            pipe.write("eins\nzw")
            pipe.flush()
            assert said([next(rest)]) == ["eins"]
            began = time.monotonic()
            assert isinstance(next(rest), Watermark) and time.monotonic() - began < 0.7
            pipe.write("ei\nthe end")
        items = list(rest)
    assert said(items) == ["zwei", "the end"]
    suite.check_epochs(plan)


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b'{"text": "hi", "user": "ann"}\nho\n')
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        _, items = suite.read(Lines())
        assert said(items) == ["hi", "ho"]
        assert os.fstat(stdin.fileno())  # it stays open for others
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(InputError, match="standard input is closed"):
        Lines().open("x")


class Following:
    """A followed file, read as it grows."""

    def __init__(self, plan: Lines) -> None:
        self.reader = plan.open(suite.STREAM)
        self.items: list[Item] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for item in self.reader:
            self.items.append(item)
        self.reader.close()

    def close(self) -> None:
        self.reader._closed = True
        self._thread.join(5)
        assert not self._thread.is_alive()

    def wait(self, *lines: str) -> None:
        until(lambda: len(said(list(self.items))) >= len(lines))
        assert said(list(self.items)) == list(lines)


def until(true: Callable[[], bool], most_s: float = 5) -> None:
    end = time.monotonic() + most_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_following_survives_rotation_and_truncation(tmp_path: Path) -> None:
    path = file(tmp_path, "old\n")
    with closing(Following(Lines(path=str(path), follow=True))) as tail:
        time.sleep(0.1)
        with path.open("a") as log:
            log.write("one\ntw")
            log.flush()
            tail.wait("one")
            log.write("o\nunfin")
            log.flush()
            tail.wait("one", "two")
            path.rename(tmp_path / "chat.log.1")
            log.write("ished")
        path.write_text("three\n")
        tail.wait("one", "two", "unfinished", "three")
        with path.open("w") as log:
            log.write("4\n")
        tail.wait("one", "two", "unfinished", "three", "4")
        path.unlink()
        time.sleep(0.7)
        path.write_text("five\n")
        tail.wait("one", "two", "unfinished", "three", "4", "five")
    assert any(isinstance(item, Watermark) for item in tail.items)


def test_following_waits_for_the_file(tmp_path: Path) -> None:
    with closing(Following(Lines(path=str(tmp_path / "late"), follow=True))) as tail:
        until(lambda: len(tail.items) >= 1)
        assert isinstance(tail.items[0], Watermark)
        file(tmp_path, "first\n", "late")
        tail.wait("first")
    with closing(Following(Lines(path=str(tmp_path / "late"), follow=True, from_start=True))) as tail:
        tail.wait("first")


def test_what_follows_is_not_replayable(tmp_path: Path) -> None:
    plan = Lines(path=str(file(tmp_path, "x\n")), follow=True)
    suite.check_plan(plan)
    suite.check_epochs(plan)
    untouched = plan.open(suite.STREAM)
    untouched.close()
    untouched.close()


def test_many_lines_cost_little(tmp_path: Path) -> None:
    """Fifty thousand of 80 characters; the bound is loose, for machines that do other things as well."""
    line = "that was such a good play, did you see how he dodged it? Best stream ever!! Nice\n"
    path = file(tmp_path, line * 50_000)
    with closing(Lines(path=str(path)).open("x")) as reader:
        began = time.process_time()
        received = sum(isinstance(item, Chunk | Gap) for item in reader)
        each_us = (time.process_time() - began) / received * 1e6
    assert received == 50_000 and each_us < 40
