"""The bounded line, against a model of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from muster.frontend.guard.line import Line


@given(limit=st.integers(0, 6), moves=st.lists(st.integers(-1, 8), max_size=80))
def test_first_come_first_served_and_never_longer_than_its_limit(
    limit: int, moves: list[int]
) -> None:
    """``-1`` joins, any other number is the position that leaves."""
    line, waiting, given_out = Line(limit), list[int](), set[int]()
    for move in moves:
        if move < 0:
            ticket = line.join()
            assert (ticket is None) == (len(waiting) == limit)
            if ticket is not None:
                assert ticket not in given_out
                given_out.add(ticket)
                waiting.append(ticket)
        elif move < len(waiting):
            ticket = waiting.pop(move)
            line.leave(ticket)
            line.leave(ticket)
        assert len(line) == len(waiting)
        assert line.first == (waiting[0] if waiting else None)
