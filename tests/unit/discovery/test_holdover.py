from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from muster.discovery.holdover import Holdover


def test_a_removal_counts_at_once_while_the_registry_is_in_reach() -> None:
    assert Holdover(10).removed(["a", "b"], now=0) == ["a", "b"]


def test_a_removal_while_the_registry_is_lost_counts_only_after_the_grace_period() -> None:
    holdover = Holdover(10)
    holdover.lost()
    assert holdover.removed(["a"], now=1) == []
    assert holdover.due_at() is None
    holdover.recovered(5)
    assert holdover.removed(["b"], now=6) == []
    assert holdover.due_at() == 15
    assert holdover.release(14.9) == []
    assert holdover.release(15) == ["a", "b"]
    assert holdover.release(16) == []
    assert holdover.due_at() is None
    assert holdover.removed(["c"], now=16) == ["c"]


def test_a_record_written_again_is_not_removed() -> None:
    holdover = Holdover(10)
    holdover.recovered(0)
    holdover.removed(["a", "b"], now=1)
    holdover.written(["a"])
    assert holdover.release(10) == ["b"]


def test_a_second_loss_starts_the_grace_period_anew() -> None:
    holdover = Holdover(10)
    holdover.recovered(0)
    holdover.removed(["a"], now=1)
    holdover.lost()
    assert holdover.release(1000) == []
    holdover.recovered(1000)
    assert holdover.release(1009) == []
    assert holdover.release(1010) == ["a"]


events = st.lists(
    st.tuples(st.sampled_from(["lost", "recovered", "removed", "written"]), st.sampled_from("abc"))
)


@given(events)
def test_what_was_written_last_is_never_released_and_what_was_removed_last_always_is(
    steps: list[tuple[str, str]],
) -> None:
    holdover, now = Holdover(10), 0.0
    there = {"a", "b", "c"}
    believed_gone: set[str] = set()
    for step, key in steps:
        now += 1
        if step == "lost":
            holdover.lost()
        elif step == "recovered":
            holdover.recovered(now)
        elif step == "removed":
            there.discard(key)
            believed_gone.update(holdover.removed([key], now))
        else:
            there.add(key)
            believed_gone.discard(key)
            holdover.written([key])
        assert not believed_gone & there
    holdover.recovered(now)
    believed_gone.update(holdover.release(now + 10))
    assert believed_gone == {"a", "b", "c"} - there
