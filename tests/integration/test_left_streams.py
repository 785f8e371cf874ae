"""What becomes of streams whose worker leaves the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from muster.discovery.memory import MemoryRegistry
from muster.errors import ResponseTimeout
from muster.runtime import Context
from muster.testing.loops import run
from muster.testing.runtimes import loopback_settings, runtime_in


async def handler(request: Any, context: Context) -> AsyncIterator[Any]:
    yield 0
    if request == "hang":
        await context.async_killed_or_stopped()
        return
    for number in range(1, 20):
        await asyncio.sleep(0.05)
        yield number


def test_one_that_goes_on_is_read_to_its_end_and_one_that_hangs_is_given_up() -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        settings = loopback_settings(left_stream_timeout_s=0.4)
        async with runtime_in(registry, settings) as there, runtime_in(registry, settings) as here:
            endpoint = there.endpoint("n.c.e")
            await there.serve(endpoint.id(), handler)
            client = await here.endpoint("n.c.e").client()
            await client.wait_for_instances(timeout=5)
            going = aiter(await client.round_robin("go on", annotated=False))
            hanging = aiter(await client.round_robin("hang", annotated=False))
            assert (await anext(going), await anext(hanging)) == (0, 0)
            await endpoint.unregister_endpoint_instance()
            assert [number async for number in going] == [*range(1, 20)]
            with pytest.raises(ResponseTimeout, match=r"for 0\.4 s"):
                await anext(hanging)

    run(scenario())
