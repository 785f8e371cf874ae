"""Dynamo's side of ``request_plane.py``, run by the peer's Python; loop for loop as Muster's."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvloop
from dynamo.runtime import dynamo_worker
from rpc_load import PROMPT, measure, measure_seen

ENDPOINT = "bench.echo.generate"


@dynamo_worker()  # type: ignore[untyped-decorator]
async def worker(runtime: Any) -> None:
    async def handler(request: Any) -> AsyncIterator[Any]:
        for number in range(request["n"]):
            if request["turns"]:
                await asyncio.sleep(0)
            yield {"token_ids": [number], "text": "hello"}

    await runtime.endpoint(ENDPOINT).serve_endpoint(handler)


@dynamo_worker()  # type: ignore[untyped-decorator]
async def caller(runtime: Any) -> None:
    client = await runtime.endpoint(ENDPOINT).client()
    await client.wait_for_instances()

    async def one(n: int, turns: bool) -> int:
        received = 0
        async for item in await client.round_robin({"n": n, "turns": turns, "prompt": PROMPT}):
            item.data()
            received += 1
        return received

    await measure(one)
    runtime.shutdown()


@dynamo_worker()  # type: ignore[untyped-decorator]
async def seen(runtime: Any) -> None:
    await measure_seen(runtime.endpoint)
    runtime.shutdown()


uvloop.run({"worker": worker, "caller": caller, "seen": seen}[sys.argv[1]]())
