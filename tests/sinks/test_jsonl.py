from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.contracts import Sink
from pipeline.core.errors import InputError, SinkBusy, SinkRefused
from pipeline.core.records import outcome_document
from sinks.jsonl import Jsonl
from tests.contracts.sink_suite import Documents, SinkSuite, event, person, result, shed

ROOT = Path(__file__).parents[2]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class TestContract(SinkSuite):
    def plan(self, folder: Path) -> Sink:
        return Jsonl(path=str(folder / "deep" / "results.jsonl"))

    def read(self, folder: Path) -> Documents:
        return {
            line.get("event") or line.get("ruling") or line["id"]: line
            for line in lines(folder / "deep" / "results.jsonl")
        }


class TestContractWithSync(TestContract):
    def plan(self, folder: Path) -> Sink:
        return Jsonl(path=str(folder / "deep" / "results.jsonl"), sync="batch")


class TestContractWithRotation(TestContract):
    def plan(self, folder: Path) -> Sink:
        return Jsonl(path=str(folder / "deep" / "results.jsonl"), rotate_mb=0.001, keep=10_000)

    def read(self, folder: Path) -> Documents:
        files = sorted((folder / "deep").iterdir(), key=lambda file: -int(file.suffix[1:].replace("jsonl", "0")))
        return {line.get("event") or line.get("ruling") or line["id"]: line for file in files for line in lines(file)}


def test_a_line_is_the_documented_one(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    Jsonl(path=str(path)).open().write([result(1, person(0.98), decided_by="resnet", certified=True)])
    assert path.read_text() == (
        '{"id": "door/01K0EPOCH/1", "stream": "door", "epoch": "01K0EPOCH", "seq": 1, "pts_ns": 40000000, '
        '"time": "2026-01-31T12:00:00.040000Z", "outcome": "result", "verdict": "reject", '
        '"latency_ms": 7.4, "decided_by": "resnet", "generation": "people@1", "certified": true, "flagged": true, '
        '"detections": [{"label": "person", "score": 0.98, "box": [10.0, 20.0, 110.5, 220.0]}]}\n'
    )


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, {"door/01K0EPOCH/0", "door/01K0EPOCH/1", "door/01K0EPOCH/2", "door/01K0EPOCH/person/1"}),
        ({"events": False}, {"door/01K0EPOCH/0", "door/01K0EPOCH/1", "door/01K0EPOCH/2"}),
        ({"outcomes": "flagged"}, {"door/01K0EPOCH/1", "door/01K0EPOCH/person/1"}),
        ({"outcomes": "none"}, {"door/01K0EPOCH/person/1"}),
    ],
)
def test_only_what_is_wanted_is_written(tmp_path: Path, options: dict[str, Any], kept: set[str]) -> None:
    path = tmp_path / "results.jsonl"
    Jsonl(path=str(path), **options).open().write([result(0), result(1, person()), shed(2), event()])
    assert {line.get("event") or line.get("ruling") or line["id"] for line in lines(path)} == kept


def test_rotation_loses_and_splits_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    writer = Jsonl(path=str(path), rotate_mb=0.002, keep=50).open()
    for seq in range(0, 60, 3):
        writer.write([result(seq), result(seq + 1), result(seq + 2)])
    writer.close()
    files = sorted(tmp_path.glob("r.jsonl.*"), key=lambda file: -int(file.suffix[1:]))
    assert len(files) > 3
    assert all(file.stat().st_size <= 2000 for file in [*files, path])
    assert [line["seq"] for file in [*files, path] for line in lines(file)] == list(range(60))


def test_rotation_keeps_only_so_many(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    writer = Jsonl(path=str(path), rotate_mb=0.0001, keep=2).open()
    for seq in range(6):
        writer.write([result(seq)])
    assert {file.name: lines(file)[0]["seq"] for file in tmp_path.iterdir()} == {
        "r.jsonl": 5,
        "r.jsonl.1": 4,
        "r.jsonl.2": 3,
    }


def test_a_rotation_that_died_half_way_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    (tmp_path / "r.jsonl.2").write_text("older\n")  # .1 had already moved here when the program died
    path.write_text("old\n")
    writer = Jsonl(path=str(path), rotate_mb=0.0001, keep=2).open()
    writer.write([result(0)])
    assert (tmp_path / "r.jsonl.1").read_text() == "old\n"
    assert (tmp_path / "r.jsonl.2").read_text() == "older\n"
    assert lines(path)[0]["seq"] == 0


def test_a_half_written_last_line_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": "whole"}\n{"id": "to')
    Jsonl(path=str(path)).open().write([result(0)])
    torn = path.read_text().splitlines()
    assert torn[:2] == ['{"id": "whole"}', '{"id": "to']
    assert json.loads(torn[2])["id"] == "door/01K0EPOCH/0"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "logs" / "r.jsonl"
    writer = Jsonl(path=str(path)).open()
    writer.write([result(0)])
    path.rename(tmp_path / "kept.jsonl")
    if replaced:
        path.touch()
    else:
        path.parent.rmdir()
    writer.write([result(1)])
    assert [line["seq"] for line in lines(tmp_path / "kept.jsonl")] == [0]
    assert [line["seq"] for line in lines(path)] == [1]


@pytest.mark.parametrize("sync", ["none", "batch"])
def test_a_disk_that_fills_up_in_the_middle_of_a_batch_takes_none_of_it(tmp_path: Path, sync: Any) -> None:
    path = tmp_path / "r.jsonl"
    writer = Jsonl(path=str(path), sync=sync).open()
    writer.write([result(0)])
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    batch = [result(seq) for seq in range(1, 20)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 1000, hard))  # room for a part of the batch
    try:
        with pytest.raises(SinkBusy, match=r"r\.jsonl"):
            writer.write(batch)
        assert path.read_bytes() == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.write(batch)  # it comes again, once there is room
    assert [line["seq"] for line in lines(path)] == list(range(20))


def test_a_full_disk_is_busy() -> None:
    writer = Jsonl(path="/dev/full").open()
    with pytest.raises(SinkBusy, match="No space left"):
        writer.write([result(0)])


def test_a_folder_or_an_impossible_path_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "r.jsonl", Path("/proc/none/r.jsonl")):
        with pytest.raises(InputError) as caught:
            Jsonl(path=str(path)).open()
        assert str(caught.value).startswith(str(path))
    for path in (tmp_path, tmp_path / "file" / "r.jsonl"):
        with pytest.raises(InputError) as caught:
            Jsonl(path=str(path)).check()
        assert str(caught.value).startswith(str(path))


WRITE = """
import sys
from pipeline.core.errors import SinkRefused
from sinks.jsonl import Jsonl
from tests.contracts.sink_suite import result
print("before")
writer = Jsonl(path="-").open()
try:
    for seq in range(int(sys.argv[1])):
        writer.write([result(seq)])
except SinkRefused as error:
    print(error, file=sys.stderr)
    sys.stdout = None
    sys.exit(3)
writer.close()
print("after")
"""


def test_standard_output_stays_in_order_and_open() -> None:
    run = subprocess.run([sys.executable, "-c", WRITE, "2"], cwd=ROOT, capture_output=True, text=True, check=True)
    first, *rest, last = run.stdout.splitlines()
    assert (first, last) == ("before", "after")
    assert [json.loads(line) for line in rest] == [outcome_document(result(seq)) for seq in range(2)]


def test_a_reader_that_left_refuses_instead_of_holding_up() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITE, "100000"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert "nobody reads standard output any more" in child.stderr.read()
    assert child.returncode == 3


def test_a_pipe_without_a_reader_refuses(tmp_path: Path) -> None:
    script = "import os, sys; os.mkfifo(sys.argv[1])"
    fifo = tmp_path / "fifo"
    subprocess.run([sys.executable, "-c", script, str(fifo)], check=True)
    with subprocess.Popen(["head", "-n", "1", str(fifo)], stdout=subprocess.PIPE, text=True) as reader:
        writer = Jsonl(path=str(fifo)).open()
        writer.write([result(0)])
        out, _ = reader.communicate()
    assert json.loads(out) == outcome_document(result(0))
    with pytest.raises(SinkRefused, match="nobody reads"):
        writer.write([result(1)])
