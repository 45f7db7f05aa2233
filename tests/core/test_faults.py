from __future__ import annotations

import pickle
import time

import pytest
from pydantic import ValidationError

from pipeline.core.faults import Act, Player


def hits(player: Player[Act], calls: int) -> list[Act | None]:
    return [player.next() for _ in range(calls)]


def test_acts_come_in_turn_and_then_nothing_does() -> None:
    one, three = Act(), Act(times=3)
    assert hits(Player([one, three], False, 0), 6) == [one, three, three, three, None, None]
    assert hits(Player([one, three], True, 0), 6) == [one, three, three, three, one, three]
    assert hits(Player([], True, 0), 2) == [None, None]


def test_an_act_lasts_by_the_clock_from_when_it_is_first_asked_for() -> None:
    brief, last = Act(for_s=0.1), Act()
    player = Player([brief, last], False, 0)
    time.sleep(0.15)
    assert hits(player, 2) == [brief, brief]
    time.sleep(0.15)
    assert hits(player, 2) == [last, None]


def test_a_share_is_drawn_by_the_seed() -> None:
    half = Act(times=1000, share=0.5)
    drawn = [act is not None for act in hits(Player([half], False, 7), 1000)]
    assert 400 < sum(drawn) < 600
    assert drawn == [act is not None for act in hits(Player([half], False, 7), 1000)]
    assert drawn != [act is not None for act in hits(Player([half], False, 8), 1000)]


def test_a_pickled_player_begins_anew_and_equals_its_like() -> None:
    player = Player([Act(), Act(times=2)], False, 1)
    hits(player, 2)
    again = pickle.loads(pickle.dumps(player))
    assert again == player and again != Player([Act()], False, 1)
    assert hits(again, 4) == [Act(), Act(times=2), Act(times=2), None]


def test_how_long_is_said_in_one_way() -> None:
    with pytest.raises(ValidationError, match="not with both"):
        Act(times=2, for_s=1.0)
