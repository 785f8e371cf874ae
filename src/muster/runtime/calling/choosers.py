"""Pick an instance: functions of a snapshot and a little state; no I/O, no clock.

The rules are those of Dynamo's push router. A load is what this process has under way at an
instance; other processes' requests are not known.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Protocol, Self

from muster.discovery.records import DeviceType
from muster.errors import InvalidArgument

__all__ = [
    "Chooser",
    "Load",
    "RouterMode",
    "chooser_for",
    "device_aware_weighted",
    "least_loaded",
    "power_of_two",
    "random_choice",
    "round_robin",
]


class Load(Protocol):
    """What a chooser may know of an instance."""

    @property
    def count(self) -> int:
        """Requests of this process under way there."""
        ...

    @property
    def device_type(self) -> str | None:
        """What it computes on: ``cpu``, ``cuda``; ``None`` if its record does not say."""
        ...


Chooser = Callable[[Sequence[int], Mapping[int, Load]], int]
"""Takes the ids that may be chosen, sorted and not empty, and the load of each of them (of others
too, perhaps); returns one of the ids."""


class RouterMode(enum.StrEnum):
    """How an instance is chosen.

    Each mode has the name of the frontend's ``--router-mode``. Made from text it also takes the
    spellings of Dynamo's cards (``power_of_two_choices``) and Python bindings
    (``RouterMode.PowerOfTwoChoices``), whose attributes are there too.
    """

    ROUND_ROBIN = "round-robin"
    RANDOM = "random"
    POWER_OF_TWO = "power-of-two"
    LEAST_LOADED = "least-loaded"
    DEVICE_AWARE_WEIGHTED = "device-aware-weighted"
    DIRECT = "direct"

    RoundRobin = "round-robin"
    Random = "random"
    PowerOfTwoChoices = "power-of-two"
    LeastLoaded = "least-loaded"
    DeviceAwareWeighted = "device-aware-weighted"
    Direct = "direct"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The mode of a name in any of these spellings.

        Raises:
            InvalidArgument: There is no such mode, or it is not supported.
        """
        try:
            return cls(text)
        except ValueError:
            known = ", ".join(cls)
            what = (
                "router mode 'kv' is not supported"
                if _plain(str(text)) == "kv"
                else (f"unknown router mode {text!r}")
            )
            raise InvalidArgument(what, hint=f"known are {known}") from None

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        name = _plain(str(value))
        name = "poweroftwo" if name == "poweroftwochoices" else name
        return next((mode for mode in cls if _plain(mode.value) == name), None)


def _plain(name: str) -> str:
    """A mode's name without what the spellings differ in."""
    return name.removeprefix("RouterMode.").replace("-", "").replace("_", "").lower()


def round_robin() -> Chooser:
    """Each in turn. The counter goes on when the instances change, as the peer's does."""
    counter = 0

    def choose(free: Sequence[int], loads: Mapping[int, Load]) -> int:
        nonlocal counter
        chosen = free[counter % len(free)]
        counter += 1
        return chosen

    return choose


def random_choice(source: Random) -> Chooser:
    """Uniformly at random."""

    def choose(free: Sequence[int], loads: Mapping[int, Load]) -> int:
        return free[int(source.random() * len(free))]

    return choose


def power_of_two(source: Random) -> Chooser:
    """The less loaded of two different ones drawn at random; the first drawn if they are even."""

    def choose(free: Sequence[int], loads: Mapping[int, Load]) -> int:
        if len(free) == 1:
            return free[0]
        one = int(source.random() * len(free))
        two = int(source.random() * (len(free) - 1))
        two += two >= one
        first, second = free[one], free[two]
        return second if loads[second].count < loads[first].count else first

    return choose


def least_loaded(free: Sequence[int], loads: Mapping[int, Load]) -> int:
    """One with the fewest requests under way; the first if several have."""
    return min(free, key=lambda instance_id: loads[instance_id].count)


def device_aware_weighted(ratio: float) -> Chooser:
    """The least loaded of the instances without an accelerator, or of those with one.

    It is one without as long as these have fewer requests than their share, which is
    ``with_load * without_count / (ratio * with_count)``. An instance whose record names no device
    counts as one with an accelerator. With only one kind it is the least loaded.

    Args:
        ratio: Throughput of an instance with an accelerator relative to one without.
    """

    def choose(free: Sequence[int], loads: Mapping[int, Load]) -> int:
        slow: list[int] = []
        fast: list[int] = []
        for instance_id in free:
            on_cpu = loads[instance_id].device_type == DeviceType.CPU
            (slow if on_cpu else fast).append(instance_id)
        if not slow or not fast:
            return least_loaded(free, loads)
        slow_load = sum(loads[instance_id].count for instance_id in slow)
        fast_load = sum(loads[instance_id].count for instance_id in fast)
        share = fast_load * len(slow) / (ratio * len(fast))
        return least_loaded(slow if slow_load < share else fast, loads)

    return choose


def chooser_for(mode: RouterMode, *, cuda_to_cpu_ratio: float) -> Chooser:
    """A chooser with a state of its own.

    Args:
        mode: The mode.
        cuda_to_cpu_ratio: See ``device_aware_weighted``.

    Raises:
        InvalidArgument: The mode is ``direct``, in which the caller chooses.
    """
    match mode:
        case RouterMode.DIRECT:
            raise InvalidArgument(
                "in router mode 'direct' the caller names the instance",
                hint="call direct(request, instance_id)",
            )
        case RouterMode.RANDOM:
            return random_choice(Random())  # noqa: S311 - balance, not secrecy
        case RouterMode.POWER_OF_TWO:
            return power_of_two(Random())  # noqa: S311 - as above
        case RouterMode.LEAST_LOADED:
            return least_loaded
        case RouterMode.DEVICE_AWARE_WEIGHTED:
            return device_aware_weighted(cuda_to_cpu_ratio)
        case _:
            return round_robin()
