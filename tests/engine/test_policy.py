"""The rules over a show by themselves: no thread, no stage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_parts import NOON, STREAMS, S, moved, play, policy, rule, seen, short
from pydantic import ValidationError

from pipeline.core.records import Result, Shed, ShedReason, Window
from pipeline.core.rulings import Ruling, ruling_document
from pipeline.engine.policy_evidence import MOST_KEPT
from pipeline.engine.policy_settings import PolicySettings

HATE = rule("hate", "block", {"stream": "chat", "label": "hate", "at_least": 0.8})
TOGETHER = rule(
    "together",
    "blur",
    {"stream": "cam", "label": "skin", "at_least": 0.3},
    {"stream": "cam.sound", "label": "moan"},
    targets=["cam"],
)


def test_one_window_decides_at_once_and_says_why() -> None:
    outcome = seen("chat", 5.0, "hate", 0.93)
    (ruling,) = policy(HATE).see(outcome, outcome.done_ns)
    assert ruling_document(ruling) == {
        "ruling": "evening/hate/chat/e/50",
        "type": "new",
        "show": "evening",
        "action": "block",
        "rule": "hate",
        "targets": ["chat"],
        "start": "2026-01-31T12:00:05.000000Z",
        "end": "2026-01-31T12:00:07.100000Z",
        "start_ns": 4_900_000_000,
        "end_ns": 7_000_000_000,
        "evidence": [
            {
                "window": "chat/e/50",
                "stream": "chat",
                "label": "hate",
                "score": 0.93,
                "threshold": 0.8,
                "decided_by": "cheap",
                "model": "mobilenet",
                "generation": "g@1",
                "certified": False,
            }
        ],
        "missing": ["cam", "cam.sound"],
        "latency_ms": 5.0,
    }


def test_streams_together_raise_what_none_would_alone() -> None:
    assert play(policy(TOGETHER), seen("cam", 1.0, "skin", 0.4), seen("cam", 2.0, "skin", 0.9)) == []
    both = policy(TOGETHER)
    rulings = play(both, seen("cam", 1.0, "skin", 0.4), seen("cam.sound", 2.0, "moan", 0.1))
    assert short(rulings) == [("new", "together", 0.9, 4.0), ("end", "together", 0.9, 4.0)]
    assert rulings[0].targets == ("cam",)
    assert [one.stream for one in rulings[0].evidence] == ["cam", "cam.sound"]
    assert rulings[0].missing == ("chat",)


def test_what_lies_too_far_apart_does_not_count_together() -> None:
    far = (seen("cam", 1.0, "skin"), seen("cam.sound", 4.1, "moan"))
    assert play(policy(TOGETHER), *far) == []
    assert play(policy(TOGETHER, window_s=3.2), *far)
    assert play(policy({**TOGETHER, "within_s": 3.2}), *far)
    assert play(policy(TOGETHER, offsets={"cam.sound": -S // 4}), *far), "a stated offset brings them together"


def test_so_many_messages_are_a_raid() -> None:
    raid = rule("raid", "mute", {"stream": "chat", "label": "rude", "at_least": 0.6, "count": 3}, within_s=10)
    few = [seen("chat", at, "rude", 0.7) for at in (1, 6, 11.5)]
    assert play(policy(raid), *few) == []
    rulings = play(policy(raid), *few, seen("chat", 12, "rude", 0.2), seen("chat", 13, "rude", 0.7))
    assert [(one.kind, len(one.evidence)) for one in rulings] == [("new", 3), ("end", 3)]
    assert rulings[0].id == "evening/raid/chat/e/130"


def test_hysteresis_keeps_an_action_going_down_to_the_lower_threshold() -> None:
    nude = rule("nude", "blur", {"label": "skin", "stream": "cam", "at_least": 0.8, "stays_at": 0.4}, hold_s=1)
    scores = {1: 0.5, 2: 0.85, 3: 0.5, 4: 0.45, 5: 0.3, 6: 0.7, 7: 0.7}
    quiet = [seen(name, at) for at in range(1, 9) for name in ("cam.sound", "chat")]
    shown = [seen("cam", at, "skin", score) for at, score in scores.items()]
    everything = sorted([*quiet, *shown], key=lambda one: one.window.end_ns)
    rulings = play(policy(nude, update_every_s=100), *everything, finish=False)
    assert short(rulings) == [("new", "nude", 1.9, 3.0), ("end", "nude", 1.9, 5.0)]


def test_an_action_that_goes_on_is_told_of_now_and_then() -> None:
    rulings = play(policy(HATE, update_every_s=2), *(seen("chat", at, "hate") for at in range(1, 7)))
    assert [one.kind for one in rulings] == ["new", "update", "update", "end"]
    assert {one.id for one in rulings} == {"evening/hate/chat/e/10"}
    assert rulings[1].evidence[0].window == "chat/e/30"
    assert rulings[-1].end_ns == 8 * S


def test_an_action_begins_again_only_with_something_new() -> None:
    pair = rule("pair", "blur", {"stream": "cam", "label": "a"}, {"stream": "chat", "label": "b"}, hold_s=0.2)
    given_ones = [seen("cam", 1, "a"), seen("chat", 1.1, "b"), seen("cam", 2, "a"), seen("cam", 9), seen("chat", 9)]
    rulings = play(policy(pair), *given_ones)
    assert short(rulings) == [
        ("new", "pair", 0.9, 1.3),
        ("end", "pair", 0.9, 1.3),
        ("new", "pair", 1.3, 2.2),
        ("end", "pair", 1.3, 2.2),
    ]
    assert [one.id for one in rulings] == ["evening/pair/chat/e/11"] * 2 + ["evening/pair/cam/e/20"] * 2
    assert {one.window for one in rulings[2].evidence} == {"cam/e/20", "chat/e/11"}


def test_any_stream_will_do_where_none_is_named_and_its_targets_join() -> None:
    anywhere = rule("hate", "block", {"label": "hate"})
    rulings = play(policy(anywhere), seen("cam", 1, "hate"), seen("chat", 1.5, "hate"))
    assert [(one.kind, one.targets) for one in rulings] == [
        ("new", ("cam",)),
        ("update", ("cam", "chat")),
        ("end", ("cam", "chat")),
    ]


def test_what_was_not_judged_is_no_evidence_and_holds_nobody() -> None:
    of = policy(HATE)
    window = seen("chat", 1).window
    assert of.see(Shed(window, 7, ShedReason.OVERLOAD), 7) == []
    assert of.action_of(Shed(window, 7, ShedReason.OVERLOAD)) is None
    assert of.see(seen("elsewhere", 1, "hate"), 7) == []
    assert of.action_of(seen("elsewhere", 1, "hate")) is None


def test_a_window_alone_gets_the_strongest_action_that_it_calls_for() -> None:
    mild = rule("rude", "flag", {"label": "rude", "at_least": 0.5})
    loud = rule("loud", "mute", {"label": "rude", "at_least": 0.8, "stream": "chat"})
    raid = rule("raid", "block", {"label": "rude", "count": 2})
    of = policy(mild, loud, raid, TOGETHER)
    assert of.action_of(seen("chat", 1, "rude", 0.9)) == ("mute", "loud")
    assert of.action_of(seen("cam", 1, "rude", 0.9)) == ("flag", "rude")
    assert of.action_of(seen("chat", 1, "rude", 0.3)) == ("allow", "")
    assert policy(mild, otherwise="flag").action_of(seen("chat", 1)) == ("flag", "")


def test_late_evidence_decides_and_is_counted() -> None:
    early = (seen("cam", 1), seen("cam.sound", 1), seen("cam", 9), seen("cam.sound", 9))
    of = policy(HATE, patience_s=2, live=True)
    play(of, *early, finish=False)
    assert of.clock.watermark_ns == 6 * S, "chat was waited for, and no longer than it may"
    (ruling, end) = of.see(seen("chat", 4, "hate"), 0)
    assert (ruling.kind, ruling.start_ns, ruling.missing) == ("new", 3 * S, ())
    assert (end.kind, end.end_ns) == ("end", 5.1 * S)
    assert of.snapshot().late == 1
    replayed = policy(HATE, patience_s=2)
    play(replayed, *early, finish=False)
    assert [one.kind for one in replayed.see(seen("chat", 4, "hate"), 0)] == ["new"]
    assert replayed.snapshot().late == 0, "what can wait is waited for"


def test_the_clock_on_the_wall_ends_what_nobody_speaks_of_any_more() -> None:
    of = policy(HATE, live=True)
    (ruling,) = of.see(seen("chat", 5, "hate"), 5 * S)
    assert ruling.end_wall_ns == NOON + 7 * S + S // 10  # it arrived when it began
    assert of.tick(9 * S) == []
    (end,) = of.tick(11 * S)
    assert (end.kind, end.id) == ("end", ruling.id)


def test_a_source_that_says_it_is_silent_is_not_waited_for() -> None:
    of = policy(HATE, live=True)
    of.see(seen("chat", 5, "hate"), 5 * S)
    for stream in STREAMS:
        of.see(seen(stream, 5.5), 6 * S)
    rulings = [one for stream in STREAMS for one in of.watermark(stream, 8 * S, 9 * S)]
    assert short(rulings) == [("end", "hate", 0.0, 2.1)]
    assert of.watermark("elsewhere", 1, 1) == []


def test_a_source_cannot_promise_what_is_yet_to_come() -> None:
    of = policy(HATE, live=True)
    for stream in STREAMS:
        of.see(seen(stream, 5), 5 * S)
        of.watermark(stream, 10**6 * S, 5 * S)
    assert of.clock.watermark_ns <= 1 * S


def test_live_clocks_are_put_in_place_by_arrival_and_followed_until_they_drift() -> None:
    of = policy(TOGETHER, live=True)
    play(of, seen("chat", 0, arrives_s=100), finish=False)
    before = of.clock.shift(seen("cam", 50, arrives_s=101).window)
    assert before == round((1 - 49.9) * S), "a second after the chat, which began the show"
    assert of.clock.shift(seen("cam", 51, arrives_s=102.9).window) == before, "it only came a little later"
    assert of.clock.shift(seen("cam.sound", 50, arrives_s=105).window) == before, "tracks of a reader share its clock"
    assert of.clock.anchored_anew == 0
    assert of.clock.shift(seen("cam", 60, arrives_s=111).window) == before
    assert of.clock.shift(seen("cam", 61, arrives_s=120).window) == before + 8 * S
    assert of.clock.anchored_anew == 1
    assert of.clock.shift(seen("cam", 1, arrives_s=121, epoch="f").window) == round((21 - 0.9) * S)
    assert of.clock.anchored_anew == 1, "a new connection is no drift"


def test_once_every_replayed_stream_ended_so_does_everything() -> None:
    of = policy(HATE)
    of.see(seen("chat", 5, "hate"), 5 * S)
    assert of.ended("cam", 6) == []
    assert of.ended("cam.sound", 6) == []
    assert [one.kind for one in of.ended("chat", 6)] == ["end"]
    assert of.ended("elsewhere", 6) == []


def test_memory_is_bounded_and_what_goes_is_counted() -> None:
    of = policy(rule("raid", "mute", {"label": "rude", "count": 1000}, within_s=600))
    for number in range(MOST_KEPT + 10):
        of.see(seen("chat", number / 10, "rude"), 0)
    assert of.snapshot().dropped == 10
    forgetful = policy(HATE, window_s=1)
    for number in range(500):
        for stream in STREAMS:
            forgetful.see(seen(stream, number, "hate"), 0)
    assert all(len(kept) <= 3 for ruled in forgetful._rules for kept in ruled.seen.begins)


def test_settings_name_their_mistakes() -> None:
    for change, words in (
        ({"rules": [HATE, HATE]}, "two rules have the name"),
        ({"rules": [rule("a", "bluur", {"label": "x"})]}, "'allow', 'flag', 'blur', 'mute' or 'block'"),
        ({"rules": [rule("a", "blur", {"label": "x", "at_least": 1.5})]}, "less than or equal to 1"),
        ({"rules": [rule("a", "blur", {"label": "x", "at_least": 0.5, "stays_at": 0.6})]}, "must not be above"),
        ({"rules": [rule("a", "blur")]}, "needs one at least"),
        ({"rules": [HATE], "windows_s": 3}, "Extra inputs"),
    ):
        with pytest.raises(ValidationError, match=words):
            PolicySettings.model_validate(change)


# What holds whatever comes.

WITHIN = [
    rule("pair", "blur", {"stream": "cam", "label": "a", "at_least": 0.5}, {"stream": "chat", "label": "b"}, hold_s=3),
    rule(
        "three",
        "block",
        {"stream": "cam", "label": "a"},
        {"stream": "cam.sound", "label": "a", "count": 2},
        {"stream": "chat", "label": "b", "at_least": 0.7, "stays_at": 0.2},
        hold_s=4,
    ),
    rule("alone", "mute", {"stream": "cam.sound", "label": "b", "at_least": 0.4, "count": 2}, hold_s=3),
]
windows = st.builds(
    lambda stream, at, label, score: seen(stream, at / 10, label, score / 10),
    st.sampled_from(STREAMS),
    st.integers(1, 30),
    st.sampled_from(["a", "b", "c", ""]),
    st.integers(0, 10),
)
shows = st.lists(windows, max_size=25, unique_by=lambda one: one.window.id)


def in_order(outcomes: list[Result]) -> list[Result]:
    return sorted(outcomes, key=lambda one: (one.window.end_ns, one.window.stream))


@st.composite
def interleaved(draw: st.DrawFn, given_ones: list[Result]) -> list[Result]:
    """Each stream in its order, the streams among each other in any."""
    lines = [[one for one in in_order(given_ones) if one.window.stream == name] for name in STREAMS]
    out = []
    while any(lines):
        line = draw(st.sampled_from([line for line in lines if line]))
        out.append(line.pop(0))
    return out


def begun(rulings: list[Ruling]) -> set[tuple[str, str, str]]:
    return {(one.id, one.rule, one.action) for one in rulings if one.kind == "new"}


@settings(deadline=None)
@given(data=st.data(), outcomes=shows)
def test_the_order_in_which_streams_arrive_changes_no_action(data: st.DataObject, outcomes: list[Result]) -> None:
    straight = play(policy(*WITHIN), *in_order(outcomes))
    mixed = play(policy(*WITHIN), *data.draw(interleaved(outcomes)))
    assert begun(mixed) == begun(straight)
    assert {(one.id, one.start_ns, one.end_ns) for one in mixed if one.kind == "end"} == {
        (one.id, one.start_ns, one.end_ns) for one in straight if one.kind == "end"
    }


@settings(deadline=None)
@given(data=st.data(), outcomes=shows)
def test_more_evidence_takes_no_action_away(data: st.DataObject, outcomes: list[Result]) -> None:
    part = [one for one in outcomes if data.draw(st.booleans())]
    acted = {one.rule for one in play(policy(*WITHIN), *in_order(part))}
    assert acted <= {one.rule for one in play(policy(*WITHIN), *in_order(outcomes))}


@settings(deadline=None)
@given(data=st.data(), outcomes=shows, spread=st.sampled_from([1, 7]), live=st.booleans())
def test_every_action_has_evidence_and_an_end(
    data: st.DataObject, outcomes: list[Result], spread: int, live: bool
) -> None:
    wide = [moved(one, one.window.end_ns / S * spread) for one in outcomes]
    of = policy(*WITHIN, live=live)
    known: dict[str, set[str]] = {}
    rulings: list[Ruling] = []
    given_so_far: set[str] = set()
    for outcome in data.draw(interleaved(wide)):
        given_so_far.add(outcome.window.id)
        for ruling in of.see(outcome, outcome.done_ns):
            assert ruling.evidence
            assert {one.window for one in ruling.evidence} <= given_so_far
            assert all(one.score >= one.threshold for one in ruling.evidence)
            assert ruling.start_ns < ruling.end_ns
            rulings.append(ruling)
    rulings += of.finish(0)
    for ruling in rulings:
        kinds = known.setdefault(ruling.id, set())
        assert (ruling.kind == "new") == (not kinds)
        assert "end" not in kinds
        kinds.add(ruling.kind)
    assert all("end" in kinds for kinds in known.values())
    assert of.snapshot().open == {}
    assert of.finish(0) == []


@settings(deadline=None)
@given(outcomes=shows, quiet=st.sampled_from(STREAMS))
def test_a_missing_stream_blocks_no_decision(outcomes: list[Result], quiet: str) -> None:
    """What the others say without it is ruled at the very window that completes it."""
    rest = [one for one in in_order(outcomes) if one.window.stream != quiet]
    of = policy(*WITHIN)
    for outcome in rest:
        for ruling in of.see(outcome, outcome.done_ns):
            if ruling.kind == "new":
                assert ruling.id.endswith(f"/{outcome.window.id}")
                assert quiet in ruling.missing
                assert ruling.latency_ns == 5_000_000


@settings(deadline=None)
@given(outcomes=shows)
def test_a_replay_rules_the_same(outcomes: list[Result]) -> None:
    """Also where it is faster: what arrival says of replayed streams means nothing."""
    later = [moved(one, one.window.end_ns / S, arrives_s=50 + one.window.end_ns / 3e9) for one in in_order(outcomes)]
    first, again = play(policy(*WITHIN), *in_order(outcomes)), play(policy(*WITHIN), *later)
    assert [(o.id, o.kind, o.start_ns, o.end_ns) for o in again] == [
        (o.id, o.kind, o.start_ns, o.end_ns) for o in first
    ]


def test_sound_alone_is_put_in_place_by_the_end_of_its_windows() -> None:
    """They grow at first: what moves on with the clock is their end."""
    of = policy(HATE, live=True)
    shifts = set()
    for end_s in (100.1, 100.5, 101.0, 101.1):
        end = round(end_s * S)
        window = Window("cam", "e", 0, max(100 * S, end - S), end, end - 90 * S, NOON + end, by_end=True)
        shifts.add(of.clock.shift(window))
        assert window.start_wall_ns - NOON == window.start_ns and window.end_wall_ns - NOON == window.end_ns
    assert shifts == {-round(100.1 * S)}
    # with another connection at full length, too
    later = Window("cam", "f", 0, 7 * S, 8 * S, 13 * S, NOON, by_end=True)
    assert of.clock.shift(later) + later.end_ns == round(2.9 * S)


def test_a_live_stream_does_not_move_time_ahead_of_the_clock() -> None:
    of = policy(HATE, live=True)
    for stream in STREAMS:
        of.see(seen(stream, 5), 5 * S)
    for stream in STREAMS:
        of.see(seen(stream, 3605, arrives_s=6) if stream == "cam.sound" else seen(stream, 5.9), 6 * S)
    of.clock.tick(7 * S)
    assert of.clock.watermark_ns <= 2 * S
    (ruling,) = of.see(seen("chat", 6.5, "hate"), 7 * S)
    assert ruling.kind == "new" and of.snapshot().late == 0
