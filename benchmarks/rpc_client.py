"""Calls the counting endpoint: the caller's side of ``request_plane.py``, the peer's loop for loop."""

import asyncio
import time
from collections.abc import Iterator

import uvloop

from muster.runtime import DistributedRuntime


async def main() -> None:
    async with DistributedRuntime() as runtime:
        client = await runtime.endpoint("bench.echo.generate").client()
        await client.wait_for_instances()

        async def one(n: int) -> None:
            received = 0
            async for item in await client.round_robin({"n": n, "prompt": "x" * 200}):
                item.data()
                received += 1
            if received != n:
                raise AssertionError(f"{received} of {n} items came")

        for n, total, concurrent in ((1, 6000, 32), (128, 400, 32), (1, 500, 1)):
            numbers = iter(range(total))

            async def run(n: int = n, numbers: Iterator[int] = numbers) -> None:
                for _ in numbers:
                    await one(n)

            began = time.perf_counter()
            await asyncio.gather(*[run() for _ in range(concurrent)])
            seconds = time.perf_counter() - began
            print(
                f"n={n} conc={concurrent}: {total / seconds:.0f} req/s "
                f"{total * n / seconds:.0f} items/s  {seconds / total * 1e6 * concurrent:.0f} us",
                flush=True,
            )


uvloop.run(main())
