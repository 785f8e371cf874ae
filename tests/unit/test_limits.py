"""How many connections a process may have."""

from __future__ import annotations

import math
import resource
from collections.abc import Iterator

import pytest

from muster.limits import connection_budget, raise_descriptor_limit


@pytest.fixture(autouse=True)
def _own_limits() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def soft() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_the_budget_leaves_some_descriptors_for_other_things() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    assert connection_budget() == 460


def test_the_soft_limit_is_raised_to_the_hard_one_or_a_million() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    raise_descriptor_limit()
    assert soft() == (1 << 20 if hard == resource.RLIM_INFINITY else min(hard, 1 << 20))
    assert connection_budget() < math.inf
    before = soft()
    raise_descriptor_limit()
    assert soft() == before
