"""The rounds of ``chat_unary.py``, ``chat_stream.py`` and ``chat_cross.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chat_load import Kind, closed, opened
from suite import Suite
from systems import all_running, systems

__all__ = ["OPEN_RATES", "chat_rounds"]

OPEN_RATES = {"unary": 200.0, "stream": 25.0}
"""Requests a second of the open loops: well below what either system can do on two cores."""


def chat_rounds(
    suite: Suite,
    pairs: Mapping[str, tuple[str, str]],
    kinds: Sequence[Kind],
    *,
    at_most: Mapping[str, tuple[str, str]],
    connections: Sequence[int],
    fresh: bool,
    at_own_times: bool,
) -> None:
    """Every load on every pair in turn, everything started afresh for each round.

    Args:
        suite: Where the figures go.
        pairs: Frontend and worker by name.
        kinds: Of requests.
        at_most: Further ones, under the closed loops with the most connections only.
        connections: Of the closed loops.
        fresh: Whether the first of them also runs with a connection a request.
        at_own_times: Whether there is an open loop too.
    """
    known = systems(suite.peer, suite.model)
    seconds = 2.0 if suite.short else 5.0
    every = {**pairs, **at_most}
    for _ in suite.numbers(every):
        with all_running(known, every) as running:
            for kind in kinds:
                for count in connections:
                    for who, at in suite.in_turn(running.items()):
                        if who in at_most and count != max(connections):
                            continue
                        load = closed(at, kind, connections=count, seconds=seconds)
                        suite.add(who, load, f"{kind.name}_c{count}")
                alone = [each for each in running.items() if each[0] in pairs]
                if fresh:
                    for who, at in suite.in_turn(alone):
                        count = connections[0]
                        load = closed(at, kind, connections=count, seconds=seconds, fresh=True)
                        suite.add(who, load, f"{kind.name}_fresh_c{count}")
                if at_own_times:
                    rate = OPEN_RATES[kind.name]
                    for who, at in suite.in_turn(alone):
                        load = opened(at, kind, rate=rate, seconds=seconds)
                        suite.add(who, load, f"{kind.name}_open_{rate:g}")
