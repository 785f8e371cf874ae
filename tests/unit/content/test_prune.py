from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.content.inventory import Inventory, StoredBlob
from muster.content.prune import GRACE_S, PrunePlan, PruneReason, plan_prune
from muster.digest import Digest

NOW = 1_700_000_000.0
DAY_S = 86400.0


def blob(
    name: str, *, age_s: float = DAY_S, size_bytes: int = 10, users: Sequence[str] = ()
) -> StoredBlob:
    return StoredBlob(
        digest=Digest.of(name.encode()),
        size_bytes=size_bytes,
        stored_s=NOW - age_s,
        used_s=NOW - age_s,
        users=tuple(users),
    )


def inventory(*blobs: StoredBlob) -> Inventory:
    return Inventory(root=Path("/cache"), blobs=blobs, views=(), spare_bytes=0)


def reasons(plan: PrunePlan) -> list[tuple[str, PruneReason]]:
    return [(each.blob.digest.hex, each.reason) for each in plan.judged]


def test_without_limits_everything_stays() -> None:
    plan = plan_prune(inventory(blob("a"), blob("b", age_s=1000 * DAY_S)), now=NOW)
    assert [reason for _, reason in reasons(plan)] == [PruneReason.WITHIN_LIMITS] * 2
    assert plan.removed == ()


def test_what_is_too_old_goes() -> None:
    old, young = blob("old", age_s=7 * DAY_S), blob("young", age_s=7 * DAY_S - 1)
    plan = plan_prune(inventory(young, old), older_than_s=7 * DAY_S, now=NOW)
    assert reasons(plan) == [
        (old.digest.hex, PruneReason.OLD),
        (young.digest.hex, PruneReason.WITHIN_LIMITS),
    ]
    assert plan.freed_bytes == 10


def test_what_is_too_much_goes_the_longest_unused_first() -> None:
    blobs = [blob(str(days), age_s=days * DAY_S) for days in (1, 3, 2)]
    plan = plan_prune(inventory(*blobs), max_size_bytes=20, now=NOW)
    assert [each.blob for each in plan.removed] == [blobs[1]]
    assert plan.removed[0].reason is PruneReason.OVER_SIZE


def test_what_goes_for_its_age_makes_room_for_the_rest() -> None:
    old, young = blob("old", age_s=9 * DAY_S), blob("young")
    plan = plan_prune(inventory(old, young), older_than_s=DAY_S * 8, max_size_bytes=10, now=NOW)
    assert [each.blob for each in plan.kept] == [young]


def test_what_is_in_use_stays_and_others_make_room_for_it() -> None:
    used, idle = blob("used", age_s=9 * DAY_S, users=["1@here"]), blob("idle")
    plan = plan_prune(inventory(used, idle), max_size_bytes=10, older_than_s=1.0, now=NOW)
    assert reasons(plan) == [
        (used.digest.hex, PruneReason.IN_USE),
        (idle.digest.hex, PruneReason.OLD),
    ]


@pytest.mark.parametrize("age_s", [0.0, GRACE_S - 1, 1 - GRACE_S])
def test_what_was_just_used_stays(age_s: float) -> None:
    plan = plan_prune(inventory(blob("a", age_s=age_s)), max_size_bytes=0, now=NOW)
    assert [each.reason for each in plan.kept] == [PruneReason.RECENT]


def test_a_clock_that_was_set_back_keeps_nothing_for_ever() -> None:
    plan = plan_prune(inventory(blob("a", age_s=-DAY_S)), max_size_bytes=0, now=NOW)
    assert len(plan.removed) == 1


blobs = st.builds(
    blob,
    st.text(min_size=1),
    age_s=st.floats(0, 1000),
    size_bytes=st.integers(0, 100),
    users=st.sampled_from([(), ("1@here",)]),
)


@given(
    st.lists(blobs, unique_by=lambda blob: blob.digest),
    st.none() | st.floats(0, 1000),
    st.none() | st.integers(0, 500),
)
def test_a_plan_takes_what_it_must_and_no_more(
    stored: list[StoredBlob], older_than_s: float | None, max_size_bytes: int | None
) -> None:
    plan = plan_prune(
        inventory(*stored), older_than_s=older_than_s, max_size_bytes=max_size_bytes, now=NOW
    )
    assert sorted(each.blob.digest for each in plan.judged) == sorted(b.digest for b in stored)
    assert not any(each.blob.users or NOW - each.blob.used_s < GRACE_S for each in plan.removed)
    left = sum(each.blob.size_bytes for each in plan.kept)
    for each in plan.kept:
        if each.reason is PruneReason.WITHIN_LIMITS:
            assert older_than_s is None or NOW - each.blob.used_s < older_than_s
            assert max_size_bytes is None or left <= max_size_bytes
    if max_size_bytes is not None:
        for each in plan.removed:
            if each.reason is PruneReason.OVER_SIZE:
                later = [o for o in plan.removed if o.blob.used_s > each.blob.used_s]
                after = left + sum(o.blob.size_bytes for o in later)
                assert after + each.blob.size_bytes > max_size_bytes
