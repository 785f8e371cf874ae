from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from muster.frontend.api_error import ApiError
from muster.frontend.guard.keys import Holder, Limits
from muster.frontend.guard.limiter import Limiter
from muster.frontend.processes.usage_table import UsageTable

ALICE = Holder(name="alice", limits=Limits(requests_per_minute=3))
BOB = Holder(name="bob", limits=Limits(concurrent=2))


@pytest.fixture
def tables() -> Iterator[list[UsageTable]]:
    """The same memory as two processes see it; locks do not count within one process."""
    first = UsageTable.create(2)
    second = UsageTable(first.descriptor, count=2, process=1)
    yield [first, second]
    for table in (first, second):
        table.close()
    os.close(first.descriptor)


def test_a_rate_is_used_up_in_all_processes_together(tables: list[UsageTable]) -> None:
    here, there = [table.usage(ALICE, 0.0) for table in tables]
    here.begin(1.0)
    there.begin(1.0)
    here.begin(1.0)
    for usage in (here, there):
        with pytest.raises(ApiError, match="3 requests per minute"):
            usage.begin(1.0)
    assert here.headers(1.0) == there.headers(1.0)
    there.begin(25.0)


def test_a_usage_made_later_does_not_begin_full(tables: list[UsageTable]) -> None:
    usage = tables[0].usage(ALICE, 0.0)
    for _ in range(3):
        usage.begin(1.0)
    with pytest.raises(ApiError, match="3 requests per minute"):
        tables[1].usage(ALICE, 1.0).begin(1.0)


def test_tokens_are_charged_for_all(tables: list[UsageTable]) -> None:
    carol = Holder(name="carol", limits=Limits(tokens_per_minute=60))
    here, there = [table.usage(carol, 0.0) for table in tables]
    here.begin(0.0)
    here.end(90, 0.0)
    with pytest.raises(ApiError, match="60 tokens per minute"):
        there.begin(1.0)
    there.begin(32.0)


def test_requests_at_a_time_are_counted_over_all_processes(tables: list[UsageTable]) -> None:
    here, there = [table.usage(BOB, 0.0) for table in tables]
    here.begin(0.0)
    there.begin(0.0)
    with pytest.raises(ApiError, match="2 requests at a time"):
        here.begin(0.0)
    there.end(0, 0.0)
    here.begin(0.0)


def test_what_ran_in_a_process_that_has_ended_does_not_count(tables: list[UsageTable]) -> None:
    here, there = [table.usage(BOB, 0.0) for table in tables]
    there.begin(0.0)
    there.begin(0.0)
    tables[0].forget_process(1)
    here.begin(0.0)
    here.begin(0.0)
    with pytest.raises(ApiError):
        here.begin(0.0)


def test_changed_limits_begin_anew_once(tables: list[UsageTable]) -> None:
    limiters = [Limiter(table.usage) for table in tables]
    for _ in range(3):
        usage = limiters[0].usage(ALICE, 0.0)
        assert usage is not None
        usage.begin(0.0)
    wider = Holder(name="alice", limits=Limits(requests_per_minute=4))
    for turn in range(4):
        usage = limiters[turn % 2].usage(wider, 0.0)
        assert usage is not None
        usage.begin(0.0)
    for limiter in limiters:
        usage = limiter.usage(wider, 0.0)
        assert usage is not None
        with pytest.raises(ApiError):
            usage.begin(0.0)


def test_holders_do_not_share(tables: list[UsageTable]) -> None:
    for number in range(500):
        holder = Holder(name=f"holder{number}", limits=Limits(concurrent=1))
        tables[number % 2].usage(holder, 0.0).begin(0.0)


def test_processes_that_count_at_once_lose_nothing(tables: list[UsageTable]) -> None:
    code = """
import sys
from muster.frontend.guard.keys import Holder, Limits
from muster.frontend.processes.usage_table import UsageTable
table = UsageTable(int(sys.argv[1]), count=2, process=int(sys.argv[2]))
usage = table.usage(Holder(name="dave", limits=Limits(requests_per_minute=10**6)), 0.0)
for _ in range(3000):
    usage.begin(0.0)
"""
    descriptor = tables[0].descriptor
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(descriptor), str(number)], pass_fds=[descriptor]
        )
        for number in range(2)
    ]
    assert [child.wait(60) for child in children] == [0, 0]
    usage = tables[0].usage(Holder(name="dave", limits=Limits(requests_per_minute=10**6)), 0.0)
    assert usage.headers(0.0)["x-ratelimit-remaining-requests"] == str(10**6 - 6000)
