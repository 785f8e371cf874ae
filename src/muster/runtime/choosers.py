"""Pick an instance: pure functions of a snapshot and a little state."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from random import Random

__all__ = ["Chooser", "RouterMode", "chooser_for", "random_choice", "round_robin"]

Chooser = Callable[[Sequence[int]], int]
"""Takes the ids that may be chosen, sorted and not empty; returns one of them."""


class RouterMode(enum.StrEnum):
    """How an instance is chosen."""

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"


def round_robin() -> Chooser:
    """Each in turn. The counter goes on when the instances change, as the peer's does."""
    counter = 0

    def choose(free: Sequence[int]) -> int:
        nonlocal counter
        chosen = free[counter % len(free)]
        counter += 1
        return chosen

    return choose


def random_choice(source: Random) -> Chooser:
    """Uniformly at random."""

    def choose(free: Sequence[int]) -> int:
        return free[int(source.random() * len(free))]

    return choose


def chooser_for(mode: RouterMode) -> Chooser:
    """A chooser with a state of its own."""
    if mode is RouterMode.RANDOM:
        return random_choice(Random())  # noqa: S311 - balance, not secrecy
    return round_robin()
