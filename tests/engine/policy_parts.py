"""Windows of a show by hand: what was seen, in which stream, at which second."""

from __future__ import annotations

from typing import Any

from pipeline.core.records import Detection, Result, Window
from pipeline.core.rulings import Ruling
from pipeline.engine.policy import Policy
from pipeline.engine.policy_settings import PolicySettings
from pipeline.engine.show_clock import ClockedStream

S = 1_000_000_000
NOON = 1_769_860_800 * S
STREAMS = ("cam", "cam.sound", "chat")


def seen(stream: str, at_s: float, label: str = "", score: float = 0.9, **fields: Any) -> Result:
    """A window of a tenth of a second that ends at `at_s` of media time, and arrives then."""
    epoch, arrives_s = fields.pop("epoch", "e"), fields.pop("arrives_s", at_s)
    end, arrives = round(at_s * S), round(arrives_s * S)
    window = Window(stream, epoch, round(at_s * 10), end - S // 10, end, arrives, NOON + arrives)
    found = (Detection(label, score),) if label else ()
    usual: dict[str, Any] = {"decided_by": "cheap", "generation": "g@1", "detections": found}
    return Result(window, arrives + 5_000_000, **usual | fields)


def moved(outcome: Result, at_s: float, **fields: Any) -> Result:
    """The same window at another time."""
    found = outcome.detections[0] if outcome.detections else Detection("", 0)
    return seen(outcome.window.stream, at_s, found.label, found.score, **fields)


def rule(name: str, action: str, *when: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"name": name, "action": action, "when": when, **options}


def policy(*rules: dict[str, Any], live: bool = False, offsets: dict[str, int] | None = None, **options: Any) -> Policy:
    settings = PolicySettings.model_validate({"show": "evening", "rules": rules, **options})
    offsets = offsets or {}
    return Policy(
        settings,
        [ClockedStream(name, name.partition(".")[0], live, live, offsets.get(name, 0)) for name in STREAMS],
        lambda generation, decided_by: {("g@1", "cheap"): "mobilenet"}.get((generation, decided_by), ""),
    )


def play(of: Policy, *outcomes: Result, finish: bool = True) -> list[Ruling]:
    rulings = [one for outcome in outcomes for one in of.see(outcome, outcome.done_ns)]
    return rulings + (of.finish(outcomes[-1].done_ns) if finish and outcomes else [])


def short(rulings: list[Ruling]) -> list[tuple[str, str, float, float]]:
    return [(one.kind, one.rule, one.start_ns / S, one.end_ns / S) for one in rulings]
