from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from muster.frontend.affinity import Bindings, home_of, in_session, named_session, session_of
from muster.llm.protocol import EngineRequest

IDS = st.frozensets(st.integers(0, 2**64 - 1), min_size=1, max_size=12)


@given(st.text(), IDS)
def test_a_session_has_one_home_whatever_the_order(session: str, ids: frozenset[int]) -> None:
    home = home_of(session, "tiny", sorted(ids))
    assert home in ids
    assert home_of(session, "tiny", sorted(ids, reverse=True)) == home


@given(st.text(), IDS, st.integers(0, 2**64 - 1))
def test_only_the_sessions_of_an_instance_that_leaves_move(
    session: str, ids: frozenset[int], other: int
) -> None:
    with_it = home_of(session, "tiny", ids | {other})
    without = home_of(session, "tiny", ids - {other})
    if with_it != other:
        assert without == with_it


def test_sessions_are_spread_evenly() -> None:
    counts = Counter(home_of(f"session {k}", "tiny", range(8)) for k in range(4000))
    assert len(counts) == 8
    assert min(counts.values()) > 400  # of 500; the odds against it are beyond a million to one


def test_a_sessions_home_is_the_same_in_every_process() -> None:
    assert [home_of(f"s{k}", "tiny", range(100)) for k in range(3)] == [53, 68, 38]


def test_nobody_is_the_home_where_nobody_is() -> None:
    assert home_of("s", "tiny", ()) is None


def test_a_client_names_its_session_in_one_of_two_headers() -> None:
    assert named_session({b"x-dynamo-session-id": b"b", b"x-session-id": b"a"}) == "a"
    assert named_session({b"x-dynamo-session-id": b"b"}) == "b"
    assert named_session({}) == ""


def test_the_session_is_in_the_agent_context() -> None:
    plain = EngineRequest(model="tiny", token_ids=[1])
    assert session_of(in_session(plain, "abc")) == "abc"
    assert in_session(plain, "") is plain
    assert session_of(plain) == ""
    assert session_of(EngineRequest(model="tiny", token_ids=[1], agent_context=None)) == ""


def test_a_session_is_remembered_until_it_has_been_idle_for_its_time() -> None:
    bindings = Bindings(10.0)
    bindings.bind("s", 7, 100.0)
    assert bindings.find("s", 110.0) == 7
    assert bindings.find("s", 110.1) is None
    bindings.bind("s", 8, 105.0)
    assert bindings.find("s", 115.0) == 8
    assert bindings.find("other", 105.0) is None


def test_sessions_nobody_uses_take_no_memory() -> None:
    bindings = Bindings(10.0, most=3)
    for number in range(5):
        bindings.bind(str(number), number, float(number))
    assert len(bindings) == 3
    assert [bindings.find(str(number), 5.0) for number in range(5)] == [None, None, 2, 3, 4]
    bindings.bind("late", 1, 100.0)
    assert len(bindings) == 1
