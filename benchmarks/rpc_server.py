"""An endpoint that counts: the worker's side of ``request_plane.py``."""

from collections.abc import AsyncIterator
from typing import Any

import uvloop

from muster.runtime import DistributedRuntime


async def main() -> None:
    async with DistributedRuntime() as runtime:

        async def handler(request: Any) -> AsyncIterator[Any]:
            for number in range(request["n"]):
                yield {"token_ids": [number], "text": "hello"}

        await runtime.endpoint("bench.echo.generate").serve_endpoint(handler)


uvloop.run(main())
