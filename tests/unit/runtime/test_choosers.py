"""Choosers: who is picked from a snapshot."""

from __future__ import annotations

from collections import Counter
from random import Random

from muster.runtime.choosers import RouterMode, chooser_for, random_choice, round_robin


def test_round_robin_takes_turns() -> None:
    choose = round_robin()
    assert [choose((3, 5, 9)) for _ in range(7)] == [3, 5, 9, 3, 5, 9, 3]


def test_round_robin_goes_on_when_the_instances_change() -> None:
    choose = round_robin()
    assert [choose((1, 2, 3)), choose((1, 2, 3)), choose((1, 2)), choose((1, 2))] == [1, 2, 1, 2]


def test_two_round_robins_count_for_themselves() -> None:
    first, second = chooser_for(RouterMode.ROUND_ROBIN), chooser_for(RouterMode.ROUND_ROBIN)
    assert (first((1, 2)), first((1, 2)), second((1, 2))) == (1, 2, 1)


def test_random_reaches_everybody_evenly() -> None:
    choose = random_choice(Random(7))
    counts = Counter(choose((1, 2, 3, 4)) for _ in range(4000))
    assert set(counts) == {1, 2, 3, 4}
    assert max(counts.values()) < 1.2 * min(counts.values())
