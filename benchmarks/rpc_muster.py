"""Muster's side of ``request_plane.py``: ``rpc_muster.py worker`` counts, ``... caller`` asks.

``rpc_muster.py seen`` is for ``discovery.py``: how long until an endpoint that is served is seen.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvloop
from rpc_load import PROMPT, measure, measure_seen

from muster.runtime import DistributedRuntime

ENDPOINT = "bench.echo.generate"


async def worker() -> None:
    async with DistributedRuntime() as runtime:

        async def handler(request: Any) -> AsyncIterator[Any]:
            for number in range(request["n"]):
                if request["turns"]:
                    await asyncio.sleep(0)
                yield {"token_ids": [number], "text": "hello"}

        await runtime.endpoint(ENDPOINT).serve_endpoint(handler)


async def caller() -> None:
    async with DistributedRuntime() as runtime:
        client = await runtime.endpoint(ENDPOINT).client()
        await client.wait_for_instances()

        async def one(n: int, turns: bool) -> int:
            received = 0
            async for item in await client.round_robin({"n": n, "turns": turns, "prompt": PROMPT}):
                item.data()
                received += 1
            return received

        await measure(one)


async def seen() -> None:
    async with DistributedRuntime() as runtime:
        await measure_seen(runtime.endpoint)


uvloop.run({"worker": worker, "caller": caller, "seen": seen}[sys.argv[1]]())
