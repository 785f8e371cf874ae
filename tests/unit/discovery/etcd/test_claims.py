from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from muster.discovery.etcd.claims import Claims, Gate
from muster.testing.loops import run

keys = st.sets(st.binary(min_size=1, max_size=3), max_size=8)


@given(ours=keys, there=keys)
def test_a_plan_makes_the_registry_what_it_should_be(ours: set[bytes], there: set[bytes]) -> None:
    claims = Claims()
    for key in ours:
        claims.put(key, b"value of " + key)
    plan = claims.plan(there)
    assert (there | set(plan.missing)) - set(plan.orphans) == ours
    assert not set(plan.missing) & there


def test_a_replacement_is_news_once_until_the_record_is_back() -> None:
    claims = Claims()
    claims.put(b"k", b"v")
    assert claims.replace(b"k")
    assert not claims.replace(b"k")
    claims.restored(b"k")
    assert claims.replace(b"k")
    assert not claims.replace(b"another's")
    claims.drop(b"k")
    assert claims.value(b"k") is None
    assert not claims.replace(b"k")


def test_changes_go_on_side_by_side_and_a_comparison_stands_alone() -> None:
    async def scenario() -> None:
        gate, log = Gate(), []
        release = asyncio.Event()

        async def change(name: str) -> None:
            async with gate.changing():
                log.append(f"{name} begins")
                await release.wait()
                log.append(f"{name} ends")

        async def compare() -> None:
            async with gate.comparing():
                log.append("compares")

        async with asyncio.TaskGroup() as group:
            group.create_task(change("a"))
            group.create_task(change("b"))
            await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            group.create_task(compare())
            await asyncio.sleep(0.01)
            group.create_task(change("c"))
            await asyncio.sleep(0.01)
            assert log == ["a begins", "b begins"]  # c waits behind the comparison
            release.set()
        assert log[2:5] == ["a ends", "b ends", "compares"]
        assert log[5:] == ["c begins", "c ends"]

    run(scenario())
