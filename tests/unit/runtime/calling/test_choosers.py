"""Choosers: who is picked from a snapshot."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.errors import InvalidArgument
from muster.model.router_config import RouterMode as CardRouterMode
from muster.runtime.calling.choosers import (
    Chooser,
    RouterMode,
    chooser_for,
    device_aware_weighted,
    least_loaded,
    power_of_two,
    random_choice,
    round_robin,
)


@dataclasses.dataclass(frozen=True)
class At:
    """A load."""

    count: int = 0
    device_type: str | None = None


NOTHING: dict[int, At] = {n: At() for n in range(20)}

fleets = st.dictionaries(
    st.integers(0, 2**64 - 1),
    st.builds(At, st.integers(0, 50), st.sampled_from([None, "cpu", "cuda", "xpu"])),
    min_size=1,
    max_size=12,
)
CHOOSING = [mode for mode in RouterMode if mode is not RouterMode.DIRECT]


def chooser(mode: RouterMode) -> Chooser:
    return chooser_for(mode, cuda_to_cpu_ratio=8.0)


# -- every mode --------------------------------------------------------------------------------


@given(st.sampled_from(CHOOSING), fleets)
def test_somebody_of_those_offered_is_chosen(mode: RouterMode, fleet: Mapping[int, At]) -> None:
    free = tuple(sorted(fleet))
    choose = chooser(mode)
    elsewhere = {2**64 + 1: At()}
    for _ in range(5):
        assert choose(free, {**fleet, **elsewhere}) in free


@pytest.mark.parametrize("mode", CHOOSING)
def test_the_only_one_is_chosen(mode: RouterMode) -> None:
    assert chooser(mode)((7,), {7: At(99, "cpu")}) == 7


# -- in turn and at random ---------------------------------------------------------------------


def test_round_robin_takes_turns() -> None:
    choose = round_robin()
    assert [choose((3, 5, 9), NOTHING) for _ in range(7)] == [3, 5, 9, 3, 5, 9, 3]


@given(st.integers(1, 12), st.integers(1, 60))
def test_round_robin_is_fair_within_one(size: int, turns: int) -> None:
    free = tuple(range(size))
    choose = round_robin()
    counts = Counter(choose(free, NOTHING) for _ in range(turns))
    assert max(counts[n] for n in free) - min(counts[n] for n in free) <= 1


def test_round_robin_goes_on_when_the_instances_change() -> None:
    choose = round_robin()
    offered = [(1, 2, 3), (1, 2, 3), (1, 2), (1, 2)]
    assert [choose(free, NOTHING) for free in offered] == [1, 2, 1, 2]


def test_two_round_robins_count_for_themselves() -> None:
    first, second = chooser(RouterMode.ROUND_ROBIN), chooser(RouterMode.ROUND_ROBIN)
    pair = (1, 2)
    assert (first(pair, NOTHING), first(pair, NOTHING), second(pair, NOTHING)) == (1, 2, 1)


def test_random_reaches_everybody_evenly() -> None:
    choose = random_choice(Random(7))
    counts = Counter(choose((1, 2, 3, 4), NOTHING) for _ in range(4000))
    assert set(counts) == {1, 2, 3, 4}
    assert max(counts.values()) < 1.2 * min(counts.values())


# -- by load -----------------------------------------------------------------------------------


@given(fleets, st.integers())
def test_power_of_two_never_takes_the_more_loaded_of_its_two(
    fleet: Mapping[int, At], seed: int
) -> None:
    free = tuple(sorted(fleet))
    chosen = power_of_two(Random(seed))(free, fleet)
    if len(free) > 1:
        source = Random(seed)
        first = free[int(source.random() * len(free))]
        rest = [each for each in free if each != first]
        second = rest[int(source.random() * len(rest))]
        assert chosen == (second if fleet[second].count < fleet[first].count else first)


@given(fleets, st.integers())
def test_power_of_two_never_takes_the_most_loaded_of_all(
    fleet: Mapping[int, At], seed: int
) -> None:
    free = tuple(sorted(fleet))
    loads = sorted(at.count for at in fleet.values())
    chosen = power_of_two(Random(seed))(free, fleet)
    if len(loads) > 1 and loads[-1] > loads[-2]:
        assert fleet[chosen].count < loads[-1]


def test_power_of_two_reaches_every_pair_of_an_idle_fleet() -> None:
    choose = power_of_two(Random(3))
    counts = Counter(choose((1, 2, 3), NOTHING) for _ in range(3000))
    assert set(counts) == {1, 2, 3}
    assert max(counts.values()) < 1.2 * min(counts.values())


@given(fleets)
def test_least_loaded_takes_the_first_of_those_with_the_fewest(fleet: Mapping[int, At]) -> None:
    free = tuple(sorted(fleet))
    fewest = min(at.count for at in fleet.values())
    assert least_loaded(free, fleet) == next(n for n in free if fleet[n].count == fewest)


# -- by device ---------------------------------------------------------------------------------


@given(fleets, st.integers(1, 20))
def test_device_aware_weighted_keeps_to_its_formula(fleet: Mapping[int, At], ratio: int) -> None:
    chosen = device_aware_weighted(ratio)(tuple(sorted(fleet)), fleet)
    cpu = {n: at.count for n, at in fleet.items() if at.device_type == "cpu"}
    other = {n: at.count for n, at in fleet.items() if at.device_type != "cpu"}
    group = cpu or other
    if cpu and other:
        allowed = Fraction(sum(other.values()) * len(cpu), ratio * len(other))
        group = cpu if sum(cpu.values()) < allowed else other
    assert chosen == min(n for n in group if group[n] == min(group.values()))


def test_an_idle_mixed_fleet_begins_with_an_accelerator() -> None:
    choose = device_aware_weighted(8)
    assert choose((1, 2), {1: At(0, "cpu"), 2: At(0, "cuda")}) == 2


def test_over_time_the_cpu_gets_its_share_of_what_is_under_way() -> None:
    choose = device_aware_weighted(8)
    counts = {1: 0, 2: 0}
    for _ in range(900):
        loads = {1: At(counts[1], "cpu"), 2: At(counts[2], "cuda")}
        counts[choose((1, 2), loads)] += 1
    assert counts == {1: 100, 2: 800}


# -- names of modes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("round-robin", RouterMode.ROUND_ROBIN),
        ("round_robin", RouterMode.ROUND_ROBIN),
        ("RoundRobin", RouterMode.ROUND_ROBIN),
        ("RouterMode.RoundRobin", RouterMode.ROUND_ROBIN),
        ("random", RouterMode.RANDOM),
        ("power-of-two", RouterMode.POWER_OF_TWO),
        ("power_of_two", RouterMode.POWER_OF_TWO),
        ("power-of-two-choices", RouterMode.POWER_OF_TWO),
        ("power_of_two_choices", RouterMode.POWER_OF_TWO),
        ("PowerOfTwoChoices", RouterMode.POWER_OF_TWO),
        ("least-loaded", RouterMode.LEAST_LOADED),
        ("least_loaded", RouterMode.LEAST_LOADED),
        ("device_aware_weighted", RouterMode.DEVICE_AWARE_WEIGHTED),
        ("DeviceAwareWeighted", RouterMode.DEVICE_AWARE_WEIGHTED),
        ("direct", RouterMode.DIRECT),
    ],
)
def test_a_mode_is_known_by_every_spelling(text: str, mode: RouterMode) -> None:
    assert RouterMode.parse(text) is mode
    assert RouterMode(text) is mode


@pytest.mark.parametrize(
    "card_mode", [mode for mode in CardRouterMode if mode is not CardRouterMode.KV]
)
def test_what_a_card_asks_for_is_a_mode(card_mode: CardRouterMode) -> None:
    assert RouterMode.parse(card_mode).name.split("_")[0] == card_mode.name.split("_")[0]


def test_the_names_of_dynamos_bindings_are_the_same_modes() -> None:
    names = ["RoundRobin", "Random", "PowerOfTwoChoices", "LeastLoaded", "DeviceAwareWeighted"]
    assert [RouterMode[name] for name in [*names, "Direct"]] == list(RouterMode)
    assert len(RouterMode) == 6


@pytest.mark.parametrize("text", ["kv", "KV", "k_v"])
def test_a_mode_we_do_not_have_is_said_to_be_one(text: str) -> None:
    with pytest.raises(InvalidArgument, match="'kv' is not supported") as caught:
        RouterMode.parse(text)
    assert "least-loaded" in caught.value.hint


def test_an_unknown_mode_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument, match="unknown router mode 'bogus'") as caught:
        RouterMode.parse("bogus")
    assert "round-robin" in caught.value.hint


def test_in_direct_mode_nobody_chooses() -> None:
    with pytest.raises(InvalidArgument, match="the caller names the instance"):
        chooser(RouterMode.DIRECT)
