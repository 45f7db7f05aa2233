"""Nothing is lost, nothing doubled: the short form of what `make soak` does two hundred times."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability.harness import account, kill_again_and_again


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_twenty_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    found = kill_again_and_again(tmp_path, kills=20)
    assert found.kills == 20 and found.before_the_first_result < 20
    assert found.clean, found.document()
    assert all(one.got == one.expected > 1000 for one in found.receivers.values())


def test_the_account_tells_what_is_missing_from_what_came_again() -> None:
    expected = [f"a/e/{n}" for n in range(4)]
    came = [("m0", "a/e/0"), ("m2", "a/e/2"), ("m1", "a/e/1"), ("m1", "a/e/1"), ("other", "a/e/0"), ("m9", "a/e/9")]
    said = account(expected, iter(came))
    assert (said.expected, said.got, said.lost, said.doubled, said.repeats, said.out_of_order) == (4, 3, 1, 2, 1, 1)
