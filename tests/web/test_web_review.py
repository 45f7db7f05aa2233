"""The view Review: real boards that a real run was unsure of, decided over HTTP, read by what trains."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from reviewed_line import config, served

from detectors.datasets import read_dataset
from detectors.training.project import read_parts
from pipeline.app.commands.train import project_from
from pipeline.core.pictures import decode_picture

pytestmark = pytest.mark.slow
GATHERS = {"kind": "doubts", "every_s": 0, "band": [0, 1], "cleared_by": ["resnet", "mobilenet"], "keep": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("review")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    """Sixty boards have passed, of which the last forty are in doubt; some were audited."""
    audit = {"share": 0.3, "key": "a key of this test", "alpha": 0.1, "state": str(folder / "audit.json")}
    sinks = {"doubts": {**GATHERS, "path": str(folder / "doubts")}}
    document = config(folder, cascade={"base": "pcb", "audit": audit}, sinks=sinks)
    with served(document) as (client, running):
        assert running.wait(120)
        yield client


def listed(client: httpx.Client, **wanted: Any) -> dict[str, Any]:
    return dict(client.get("/api/review", params=wanted).raise_for_status().json())


def open_with(client: httpx.Client, found: bool) -> dict[str, Any]:
    items = listed(client, state="open", limit=1000)["items"]
    return next(one for one in items if bool(one["detections"]) == found)


def put(client: httpx.Client, item: str, **word: Any) -> httpx.Response:
    return client.put(f"/api/review/{item}", json=word)


def test_what_is_in_doubt_is_listed_with_its_picture(client: httpx.Client) -> None:
    said = listed(client, state="open", limit=1000)
    assert len(said["items"]) >= 30
    assert said["counts"]["open"] == len(said["items"])
    assert [one["time"] for one in said["items"]] == sorted((one["time"] for one in said["items"]), reverse=True)
    reasons = {one["reason"] for one in said["items"]}
    assert "audited" in reasons
    for reason in reasons:
        of_it = listed(client, state="open", reason=reason, limit=1000)["items"]
        assert len(of_it) == said["counts"]["reasons"][reason]
    assert listed(client, stream="another")["items"] == []
    item = open_with(client, True)
    assert item["labels"] == ["open", "short", "mousebite", "spur", "copper", "pin-hole"]
    assert item["partial"] or item["missed"]
    answer = client.get(item["picture"])
    assert answer.headers["content-type"] == "image/png"
    picture = decode_picture(answer.content)
    assert (picture.width, picture.height) == (item["width"], item["height"]) == (640, 640)


def test_a_long_list_comes_in_pages(client: httpx.Client) -> None:
    whole = [one["id"] for one in listed(client, limit=1000)["items"]]
    paged: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = listed(client, limit=7, **after)
        paged += [one["id"] for one in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert paged == whole


def test_decisions_become_a_data_set_that_training_reads(client: httpx.Client, folder: Path) -> None:
    confirmed, clean = open_with(client, True), open_with(client, False)
    box = [100.5, 200.0, 140.0, 230.25]
    first = put(client, confirmed["id"], decision="confirm", by="Ada").raise_for_status().json()
    assert first["state"] == "done"
    assert first["decision"]["by"] == "Ada"
    assert put(client, confirmed["id"], decision="confirm", by="Bob").json() == first  # the same once more
    put(client, clean["id"], decision="confirm").raise_for_status()
    corrected = open_with(client, True)
    there = [{"label": "spur", "box": box}, {"label": "scratch", "box": [0, 0, 640, 20]}]
    put(client, corrected["id"], decision="correct", detections=there).raise_for_status()
    unsure = open_with(client, False)
    put(client, unsure["id"], decision="unsure").raise_for_status()
    emptied = open_with(client, True)
    put(client, emptied["id"], decision="correct", detections=[]).raise_for_status()
    undone = open_with(client, True)
    put(client, undone["id"], decision="confirm").raise_for_status()
    assert client.delete(f"/api/review/{undone['id']}").json()["state"] == "open"
    assert client.delete(f"/api/review/{undone['id']}").json()["state"] == "open"

    said = listed(client, state="done")
    assert said["counts"]["done"] == 5
    assert said["counts"]["decisions"] == {"confirm": 2, "correct": 2, "unsure": 1}
    (told,) = said["datasets"]
    assert said["dataset"] == told["path"] == str(folder / "doubts" / "reviewed")
    assert told["rows"] == 4
    assert told["train"] == f"thresher train {told['path']} --name doubts-reviewed"

    data = read_dataset(Path(told["path"]))
    assert not data.left_out
    assert data.labels == ("open", "short", "mousebite", "spur", "copper", "pin-hole", "scratch")
    assert len(data) == 4
    found = {tuple(map(tuple, sample.boxes.tolist())): sample for sample in data.samples}
    assert ((100.5, 200.0, 140.0, 230.25), (0.0, 0.0, 640.0, 20.0)) in found
    assert sum(not len(sample.boxes) for sample in data.samples) == 2, "what is clean is a good part"
    project = project_from(told["path"], "again", None, ("data.hold_out=0.25",))  # what `thresher train` does first
    whole, learned, held = read_parts(project.data)
    assert (len(whole), len(learned), len(held)) == (4, 3, 1)
    for sample in whole.samples:
        sample.image().release()


@pytest.mark.parametrize(
    ("word", "place"),
    [
        ({"decision": "maybe"}, "decision"),
        ({}, "decision"),
        ({"decision": "correct"}, "detections"),
        ({"decision": "confirm", "detections": []}, "detections"),
        ({"decision": "unsure", "more": 1}, "more"),
        ({"decision": "correct", "detections": [{"label": "spur"}]}, "box"),
        ({"decision": "correct", "detections": [{"label": "spur", "box": [0, 0, 641, 10]}]}, "box"),
        ({"decision": "correct", "detections": [{"label": "spur", "box": [-1, 0, 10, 10]}]}, "box"),
        ({"decision": "correct", "detections": [{"label": "spur", "box": [10, 10, 5, 20]}]}, "box"),
        ({"decision": "correct", "detections": [{"label": "spur", "box": [5, 5, 5.5, 5.5]}]}, "box"),
        ({"decision": "correct", "detections": [{"label": "spur", "box": [1, 2, 3]}]}, "box"),
        ({"decision": "correct", "detections": [{"label": "spur", "box": "all"}]}, "box"),
        ({"decision": "correct", "detections": [{"label": "SPUR", "box": [0, 0, 9, 9]}]}, "label"),
        ({"decision": "correct", "detections": [{"label": " spur", "box": [0, 0, 9, 9]}]}, "label"),
        ({"decision": "correct", "detections": [{"label": "a\nb", "box": [0, 0, 9, 9]}]}, "label"),
        ({"decision": "correct", "detections": [{"label": "", "box": [0, 0, 9, 9]}]}, "label"),
        ({"decision": "correct", "detections": [{"label": "x" * 101, "box": [0, 0, 9, 9]}]}, "label"),
        ({"decision": "correct", "detections": [{"label": "x", "box": [0, 0, 9, 9]}] * 501}, "detections"),
        ({"decision": "confirm", "by": "a\x00b"}, "by"),
    ],
)
def test_what_cannot_be_is_told_and_changes_nothing(client: httpx.Client, word: dict[str, Any], place: str) -> None:
    item = open_with(client, True)
    before = listed(client)["counts"]
    answer = put(client, item["id"], **word)
    assert answer.status_code == 422, answer.text
    assert place in answer.text
    assert listed(client)["counts"] == before


def test_numbers_that_are_none_are_refused(client: httpx.Client) -> None:
    item = open_with(client, True)
    for box in ("[NaN, 0, 9, 9]", "[0, 0, Infinity, 9]", "[0, 0, 1e400, 9]"):
        body = f'{{"decision": "correct", "detections": [{{"label": "spur", "box": {box}}}]}}'
        answer = client.put(f"/api/review/{item['id']}", content=body, headers={"content-type": "application/json"})
        assert answer.status_code in {400, 422}, answer.text


@pytest.mark.parametrize("item", ["0" * 16, "f" * 16])
def test_what_is_not_in_doubt_is_not_found(client: httpx.Client, item: str) -> None:
    assert client.get(f"/api/review/{item}/picture").status_code == 404
    assert put(client, item, decision="confirm").status_code == 404
    assert client.delete(f"/api/review/{item}").status_code == 404


@pytest.mark.parametrize(
    "trick", ["..%2f..%2fannotations.json", "%2e%2e", "annotations.json", "images%2fx.png", "0" * 17, "0" * 5000, "%00"]
)
def test_a_path_is_no_item(client: httpx.Client, trick: str) -> None:
    for answer in (client.get(f"/api/review/{trick}/picture"), put(client, trick, decision="confirm")):
        assert answer.status_code in {400, 404, 405, 422}
        assert "root" not in answer.text


def test_a_picture_outside_the_folder_is_never_shown(client: httpx.Client, folder: Path) -> None:
    """Whatever somebody wrote into the document."""
    file = folder / "doubts" / "annotations.json"
    before = file.read_text()
    data = json.loads(before)
    (folder / "secret.png").write_bytes(b"secret")
    for name in ("../../secret.png", "/etc/passwd", "images/../../../secret.png"):
        image = {
            "id": 10_000 + len(data["images"]),
            "file_name": name,
            "width": 9,
            "height": 9,
            "window": f"line/x/{name}",
        }
        data["images"].append(image)
    (folder / "doubts" / "images" / "link.png").symlink_to(folder / "secret.png")
    data["images"].append({"id": 99_999, "file_name": "images/link.png", "width": 9, "height": 9, "window": "line/x/l"})
    data["images"].append({"id": 99_998, "file_name": 7, "width": "x", "height": None, "window": "line/x/m"})
    try:
        file.write_text(json.dumps(data))
        tricks = [one for one in listed(client, limit=1000)["items"] if one["window"].startswith("line/x/")]
        assert len(tricks) >= 4
        for one in tricks:
            assert client.get(one["picture"]).status_code == 409
            assert put(client, one["id"], decision="confirm").status_code == 409
        file.write_text("{")
        assert client.get("/api/review").status_code == 409
    finally:
        file.write_text(before)
    assert client.get("/api/review").status_code == 200


def test_an_item_whose_picture_made_room_cannot_be_decided(client: httpx.Client, folder: Path) -> None:
    item = open_with(client, False)
    data = json.loads((folder / "doubts" / "annotations.json").read_text())
    name = next(one["file_name"] for one in data["images"] if one["window"] == item["window"])
    (folder / "doubts" / name).unlink()
    assert client.get(item["picture"]).status_code == 409
    answer = put(client, item["id"], decision="confirm")
    assert answer.status_code == 409
    assert "made room" in answer.json()["detail"]


def test_the_page_brings_a_sink_along_beside_the_results(tmp_path: Path) -> None:
    with served(config(tmp_path)) as (client, running):
        assert running.wait(60)
        deadline = time.monotonic() + 20
        while not (items := listed(client)["items"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert items
        assert listed(client)["dataset"] == str(tmp_path / "line.doubts" / "reviewed")
    with served(config(tmp_path, web={"review": False})) as (client, _):
        said = listed(client)
        assert (said["items"], said["dataset"]) == ([], None)
        assert "kind: doubts" in said["advice"]


MESSAGES = [
    "have a nice day",
    "you are a stupid ugly cow",
    "bitch please",
    "that game was trash lol",
    "see you at nine",
]


def chat(folder: Path, **web: Any) -> Any:
    (folder / "said.txt").write_text("\n".join(MESSAGES * 4))
    sources = {"talk": {"kind": "lines", "path": str(folder / "said.txt")}}
    audit = {"share": 1.0, "key": "a key of this test", "alpha": 0.02, "state": str(folder / "audit.json")}
    return config(folder, sources=sources, cascade={"base": "chat", "audit": audit, "cache": 0}, web=web)


def test_messages_are_reviewed_only_where_they_may_be_kept(tmp_path: Path) -> None:
    with served(chat(tmp_path)) as (client, running):
        assert running.wait(60)
        assert listed(client)["datasets"] == []
    assert not list(tmp_path.glob("*.doubts"))
    with served(chat(tmp_path, review_text=True)) as (client, running):
        assert running.wait(60)
        deadline = time.monotonic() + 20
        while not (items := listed(client)["items"]) and time.monotonic() < deadline:
            time.sleep(0.1)
        item = items[0]
        assert item["text"] in MESSAGES
        assert (item["picture"], item["labels"]) == (None, ["hate", "offensive", "neither"])
        assert client.get(f"/api/review/{item['id']}/picture").status_code == 404
        box = [{"label": "hate", "box": [0, 0, 9, 9]}]
        assert put(client, item["id"], decision="correct", detections=box).status_code == 422
        both = [{"label": "hate"}, {"label": "offensive"}]
        assert put(client, item["id"], decision="correct", detections=both).status_code == 422
        put(client, item["id"], decision="correct", detections=[{"label": "offensive"}]).raise_for_status()
        data = read_dataset(Path(listed(client)["dataset"]))
        assert [(one.text, data.labels[one.classes[0]]) for one in data.samples] == [(item["text"], "offensive")]
        put(client, item["id"], decision="correct", detections=[]).raise_for_status()
        data = read_dataset(Path(listed(client)["dataset"]))
        assert [(one.text, data.labels[one.classes[0]]) for one in data.samples] == [(item["text"], "neither")]
