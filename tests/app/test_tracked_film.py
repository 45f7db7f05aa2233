"""People in a real film, followed through zones and over lines by the shipped config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from calling import Thresher

from tests.engine.event_parts import Documented, check_documents

STEPS = ["--set", "sources.street.max_fps=5", "--set", "events.whole_picture=true"]


@pytest.mark.slow
def test_a_real_film_gives_the_same_events_each_time(thresher_here: Thresher, tmp_path: Path, project: Path) -> None:
    for folder in ("pipeline", "configs"):
        (tmp_path / folder).symlink_to(project / folder)
    told: list[list[Documented]] = []
    for _ in range(2):
        ran = thresher_here("run", "configs/gate.yaml", *STEPS)
        assert ran.returncode == 0, ran.stderr
        path = tmp_path / "results" / "gate.jsonl"
        told.append([one for one in map(json.loads, path.read_text().splitlines()) if "event" in one])
        path.unlink()
    assert told[0] and [_timeless(one) for one in told[0]] == [_timeless(one) for one in told[1]]
    check_documents(told[0])
    people = {one["track"] for one in told[0] if "zone" not in one}
    assert 4 <= len(people) <= 25, "a dozen people walk through, in 20 seconds"
    assert {one["track"] for one in told[0]} >= people
    assert {one["direction"] for one in told[0] if one.get("zone") == "middle"} == {"in", "out"}
    assert any(one.get("zone") == "gate" for one in told[0])


def _timeless(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in {"start", "end"}}
