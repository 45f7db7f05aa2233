"""Why an event is one: its decision record, of a real run through two stages with an audit and a policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from parts import Brightness

from detectors.rules.boxes import Boxes
from detectors.rules.regions import Regions
from pipeline.app.web.decisions import threshold
from pipeline.core.contracts import Generation
from pipeline.core.records import Detection
from sinks.sqlite import Sqlite
from tests.contracts.sink_suite import event, person, result
from tests.web.feed_parts import serving
from tests.web.store_parts import ALONE, ASKED, NOTHING, Ran, ran

SCRIPT = [NOTHING] * 5 + [ASKED] * 12 + [NOTHING] * 70 + [ALONE] * 10 + [NOTHING] * 3


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with ran(tmp_path_factory.mktemp("run"), {"door": SCRIPT, "yard": [NOTHING] * 30}) as one:
        yield one


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


def test_the_decision_record_of_an_event_that_the_heavy_stage_decided(real: Ran) -> None:
    newest, oldest = real.all("events")
    said = real.get(f"/api/events/{oldest['event']}")
    decision = said["decision"]
    assert said["event"] == oldest
    assert {name: decision[name] for name in ("stage", "generation", "label", "score", "threshold", "model")} == {
        "stage": "heavy", "generation": "known@1a2b3c4d", "label": "bright", "score": 0.9, "threshold": 0.5,
        "model": "heavy",
    }  # fmt: skip
    assert (decision["certified"], decision["promise"], decision["found_by"]) == (False, None, "heavy")
    assert (decision["action"], decision["rule"]) == ("blur", "glare")
    assert decision["thresholds"] == {
        "kind": "scores", "watch": ["bright"], "clear_below": 0.3, "flag_at": 0.8, "confirm": {"bright": 0.5},
    }  # fmt: skip
    written = real.written()
    assert [one["seq"] for one in said["results"]] == list(range(5, 17))
    assert all(one == written[one["id"]] for one in said["results"])
    assert decision["window"] in {one["id"] for one in said["results"]}
    assert newest["event"] != oldest["event"]


def test_the_decision_record_of_an_event_that_the_cheap_stage_decided_and_its_audit(real: Ran) -> None:
    newest = real.all("events")[0]
    said = real.get(f"/api/events/{newest['event']}")
    assert {name: said["decision"][name] for name in ("stage", "threshold", "score")} == {
        "stage": "cheap", "threshold": 0.8, "score": 0.9,
    }  # fmt: skip
    written = real.written("audit")
    assert said["audit"] == written[said["audit"]["audit"]] | {"stage": "heavy"}
    assert said["audit"]["audit"] in {one["id"] for one in said["results"]}
    assert said["audit"]["heavy_flagged"] is True


def test_what_the_cheap_stage_reports_by_itself_passed_its_own_threshold_whoever_decided() -> None:
    cheap, heavy = Brightness("mobile", labels=("person",)), Brightness("res", labels=("unsafe", "person"))
    rule = Boxes(report={"person": 0.5}, escalate={"person": 0.4}, confirm={"unsafe": 0.8, "person": 0.7})
    both = Generation("g@1", cheap, heavy, rule)
    assert threshold(both, "person", "mobile", 0.6) == (0.5, "mobile")
    assert threshold(both, "unsafe", "res", 0.9) == (0.8, "res")
    assert threshold(both, "person", "res", 0.9) == (0.7, "res")
    assert threshold(both, "person", "res", 0.6) == (0.5, "mobile")
    assert threshold(both, "person", "motion", 0.6) == (0.5, "mobile")
    assert threshold(both, "dog", "res", 0.6) == (None, None)
    at_once = Generation("g@2", cheap, heavy, Regions(escalate={"person": 0.1}, confirm={"unsafe": 0.6}, slack=0.1))
    assert threshold(at_once, "unsafe", "res", 0.55) == (0.5, "res")


def test_the_rulings_that_rest_on_an_event(real: Ran) -> None:
    rulings = real.written("ruling")
    for one in real.all("events"):
        said = real.get(f"/api/events/{one['event']}")
        (ruling,) = said["rulings"]
        windows = {found["id"] for found in said["results"]}
        assert {evidence["window"] for evidence in ruling["evidence"]} & windows
        assert (ruling["action"], ruling["rule"]) == ("blur", "glare")
        assert rulings[ruling["ruling"]]["type"] == "end"
        assert ruling["end"] == rulings[ruling["ruling"]]["end"]


def test_a_record_of_another_run_says_what_is_known(path: Path) -> None:
    with closing(Sqlite(path=str(path)).open()) as writer:
        carried = result(3, person(0.99), decided_by="motion", carried_from="door/01K0EPOCH/1", certified=True)
        writer.write([result(1, person(0.97), decided_by="resnet"), result(2), carried, result(90, person(1.0))])
        writer.write([event("end", 10)])
    with serving({"db": Sqlite(path=str(path))}) as (_, url):
        said = httpx.get(f"{url}/api/events/{event().id}").json()
    assert [one["seq"] for one in said["results"]] == [1, 3]
    decision = said["decision"]
    assert (decision["stage"], decision["decided_by"], decision["carried_from"]) == (
        "resnet",
        "motion",
        "door/01K0EPOCH/1",
    )
    assert (decision["generation"], decision["threshold"], decision["promise"]) == ("people@1", None, None)
    assert decision["certified"] is True
    assert (said["audit"], said["rulings"]) == (None, [])


def test_an_event_with_a_strange_name_has_a_record(path: Path) -> None:
    strange = "Straße/100 %?#&é"
    name = f"door/01K0EPOCH/{strange}@zone/1"
    with closing(Sqlite(path=str(path)).open()) as writer:
        writer.write([result(1, Detection(strange, 0.9))])
        writer.write([replace(event("end", 10, name), label=strange, best=Detection(strange, 0.9))])
    with serving({"db": Sqlite(path=str(path))}) as (_, url):
        said = httpx.get(f"{url}/api/events/{quote(name)}").json()
    assert [one["seq"] for one in said["results"]] == [1]
    assert said["decision"]["window"] == "door/01K0EPOCH/1"
