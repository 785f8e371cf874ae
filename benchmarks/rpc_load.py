"""The load of ``request_plane.py``, the same for every system: standard library only.

A system's caller hands over how it sends one request and reads ``n`` items; this module decides
how many, how many at once, and what is measured. What is printed is one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

__all__ = ["PROMPT", "measure", "measure_seen"]

PROMPT = "x" * 200
_WARM_UP = 500
_REQUESTS, _AT_ONCE = 6000, 32
_ONE_BY_ONE = 1000
_STREAMS, _ITEMS = 8, 4000
_ENDPOINTS = 20


async def measure(one: Callable[[int, bool], Awaitable[int]]) -> None:
    """Run the load and print the figures.

    Args:
        one: Sends one request for that many items, reads them all, and gives how many came. The
            second argument asks the worker to give the loop a turn before each item.
    """

    async def timed(n: int, turns: bool) -> float:
        began = time.perf_counter()
        received = await one(n, turns)
        took = time.perf_counter() - began
        if received != n:
            raise AssertionError(f"{received} of {n} items came")
        return took

    async def run(n: int, total: int, at_once: int, *, turns: bool = False) -> list[float]:
        numbers = iter(range(total))
        times: list[float] = []

        async def lane() -> None:
            times.extend([await timed(n, turns) for _ in numbers])

        await asyncio.gather(*[lane() for _ in range(at_once)])
        return times

    await run(1, _WARM_UP, _AT_ONCE)
    cpu, began = _cpu_s(), time.perf_counter()
    busy = await run(1, _REQUESTS, _AT_ONCE)
    took = time.perf_counter() - began
    request_cpu = _cpu_s() - cpu
    alone = await run(1, _ONE_BY_ONE, 1)
    await run(100, _STREAMS, _STREAMS)
    cpu, began = _cpu_s(), time.perf_counter()
    await run(_ITEMS, _STREAMS, _STREAMS)
    stream_took = time.perf_counter() - began
    item_cpu = _cpu_s() - cpu
    began = time.perf_counter()
    await run(_ITEMS, _STREAMS, _STREAMS, turns=True)
    turns_took = time.perf_counter() - began
    figures = {
        "requests_per_s": _REQUESTS / took,
        "items_per_s": _STREAMS * _ITEMS / stream_took,
        "turn_items_per_s": _STREAMS * _ITEMS / turns_took,
        "latency_1_median_us": statistics.median(alone) * 1e6,
        "latency_1_p99_us": _p99(alone) * 1e6,
        "latency_32_median_us": statistics.median(busy) * 1e6,
        "latency_32_p99_us": _p99(busy) * 1e6,
        "cpu_us_per_request": request_cpu / _REQUESTS * 1e6,
        "cpu_us_per_item": item_cpu / (_STREAMS * _ITEMS) * 1e6,
    }
    print(json.dumps(figures), flush=True)


async def measure_seen(endpoint: Callable[[str], Any]) -> None:
    """Serve one endpoint after the other and print when a client of each had an instance."""

    async def handler(request: Any) -> AsyncIterator[Any]:
        yield request

    took: list[float] = []
    serving: list[asyncio.Future[Any]] = []
    for number in range(_ENDPOINTS):
        served = endpoint(f"bench.seen.number{number}")
        client = await served.client()
        began = time.perf_counter()
        serving.append(asyncio.ensure_future(served.serve_endpoint(handler)))
        await client.wait_for_instances()
        took.append((time.perf_counter() - began) * 1e3)
    print(json.dumps({"seen_ms": took}), flush=True)
    for each in serving:
        each.cancel()
    await asyncio.gather(*serving, return_exceptions=True)


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[-1]


def _cpu_s() -> float:
    """User and system time of this process and of the worker, whose process id is given to us."""
    worker = Path(f"/proc/{os.environ['BENCH_WORKER']}/stat").read_text().rpartition(")")[2].split()
    return time.process_time() + (int(worker[11]) + int(worker[12])) / os.sysconf("SC_CLK_TCK")
