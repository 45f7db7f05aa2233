"""The view Promise: the certificate, the audit with its history, and the slider, of a cascade that really runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from reviewed_line import config, one_film, served
from ruamel.yaml import YAML

from detectors.calibration.certificate import rule_settings
from detectors.choice import ZOO
from pipeline.app.web import history, promise
from pipeline.app.wiring import prepare

pytestmark = pytest.mark.slow
AUDIT = {"share": 0.5, "key": "a key of this test", "alpha": 0.1}


def cascade_of(client: Any) -> dict[str, Any]:
    (cascade,) = client.get("/api/promise").raise_for_status().json()["cascades"]
    return dict(cascade)


def test_a_certified_cascade_is_shown_with_its_audit_and_how_the_bounds_came_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "EVERY_S", 0.05)
    monkeypatch.setattr(promise, "EVERY_S", 0.05)
    audit = {**AUDIT, "state": str(tmp_path / "audit.json")}
    with served(config(tmp_path, cascade={"base": "pcb", "audit": audit})) as (client, running):
        assert running.wait(60)
        said = cascade_of(client)
    assert (said["cascade"], said["certified"], said["advice"]) == ("cascade", True, "")
    assert said["promise"] == "misses at most 2 % of what is truly there (δ = 2 %)"
    certificate = said["certificate"]
    assert (certificate["alpha"], certificate["delta"], certificate["n"], certificate["misses"]) == (0.02, 0.02, 200, 0)
    assert (certificate["against"], certificate["thresholds"]) == ("truth", {"escalate": {"suspicious": 0.2}})
    report = said["audit"]["report"]
    assert report["audited"] > 0
    assert report["outlook"]
    assert 0 <= report["lower"] <= report["upper"] <= 1
    times = [point["time"] for point in said["history"]]
    assert times == sorted(times)
    assert said["recall"]["basis"] == "audit"
    assert said["recall"]["lower"] <= said["effective_recall"] <= said["recall"]["upper"]
    with served(config(tmp_path, cascade={"base": "pcb", "audit": audit})) as (client, running):
        running.wait(1.0)
        kept = cascade_of(client)["history"]
    assert {point["time"] for point in kept} & set(times)  # across a restart
    assert kept[-1]["audited"] >= report["audited"]


def test_an_uncertified_one_says_what_to_do() -> None:
    with served(one_film()) as (client, _):
        said = cascade_of(client)
        assert (said["certified"], said["certificate"], said["audit"]) == (False, None, None)
        assert (said["effective_recall"], said["recall"], said["replay"]) == (None, None, False)
        assert "thresher calibrate" in said["advice"]
        assert "nobody has measured what it misses" in said["advice"]
        replay = client.get("/api/promise/people/replay")
        assert replay.status_code == 404
        assert "web: {scores: {people: FILE}}" in replay.json()["detail"]
        for name in ("nobody", "..%2f..%2fetc%2fpasswd", "a" * 101):
            assert client.get(f"/api/promise/{name}/replay").status_code in {400, 404, 422}
        assert client.get("/api/review").json()["datasets"] == []  # without files of results, nothing is gathered


def test_without_an_audit_the_recall_is_what_the_certificate_and_the_ledger_say(tmp_path: Path) -> None:
    with served(config(tmp_path)) as (client, running):
        assert running.wait(60)
        said = cascade_of(client)
        ledger = client.get("/api/snapshot").json()["streams"][0]
    share = ledger["results"] / (ledger["windows"] + ledger["undecoded"] + ledger["damaged"])
    assert said["recall"]["estimate"] is None
    assert said["effective_recall"] == pytest.approx(0.98 * share)


def test_the_slider_of_the_shipped_cascade_says_what_its_certificate_says(tmp_path: Path) -> None:
    with served(config(tmp_path)) as (client, _):
        said = client.get("/api/promise/pcb/replay").raise_for_status().json()
        again = client.get("/api/promise/pcb/replay").raise_for_status().json()
    assert again == said
    assert said["scores"]["units"] == 400
    assert "group00041" in said["scores"]["split"]
    now, points = said["now"], {point["threshold"]: point for point in said["points"]}
    same = points[0.2]
    for one in (now, same):  # as in pcb.certificate.yaml
        assert (one["true_positives"], one["truly_missed_units"]) == (200, 0)
        assert (one["positives"], one["missed_units"]) == (213, 8)
        assert (one["others"], one["false_units"]) == (200, 14)
        assert one["escalated"] == pytest.approx(1 - 0.415)
    assert said["certified_up_to"] == 0.2
    assert [t for t, one in points.items() if one["covered"]] == [t for t in points if t <= 0.2]
    escalated = [one["escalated"] for one in said["points"]]
    assert escalated == sorted(escalated, reverse=True)
    assert points[1.0]["truly_missed_units"] > 100
    assert points[0.0]["missed_units"] <= points[0.5]["missed_units"]
    document = config(tmp_path)
    document.data["cascade"] = {"base": "pcb", **YAML(typ="safe").load(points[0.5]["config"])}
    generation = prepare(document)[1]["cascade"]
    assert rule_settings(generation.rule)["escalate"] == {"suspicious": 0.5}
    assert not generation.certified


def test_scores_that_are_not_of_what_runs_are_refused(tmp_path: Path) -> None:
    for name, there, says in (
        ("of.jsonl.gz", ZOO / "cascades" / "pcb.certificate.yaml", "is damaged, or no file of scores"),
        ("gone.jsonl.gz", None, "cannot be read"),
    ):
        if there is not None:
            shutil.copy(there, tmp_path / name)
        with served(config(tmp_path, web={"scores": {"pcb": name}})) as (client, _):
            answer = client.get("/api/promise/pcb/replay")
            assert answer.status_code == 409
            assert says in answer.json()["detail"]
