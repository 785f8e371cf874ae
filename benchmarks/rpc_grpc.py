"""grpcio's side of ``request_plane.py``: one unary-to-stream method, msgpack both ways, no protoc.

The worker writes its port into the file ``BENCH_PORT_FILE`` names; the caller reads it there. One
channel carries every request, as with any gRPC client.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import uvloop
from rpc_load import PROMPT, measure

SERVICE, METHOD = "bench.Echo", "Generate"


async def worker() -> None:
    async def handler(request: Any, context: Any) -> AsyncIterator[Any]:
        del context
        for number in range(request["n"]):
            if request["turns"]:
                await asyncio.sleep(0)
            yield {"token_ids": [number], "text": "hello"}

    method = grpc.unary_stream_rpc_method_handler(
        handler,
        request_deserializer=msgspec.msgpack.decode,
        response_serializer=msgspec.msgpack.encode,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    place = Path(os.environ["BENCH_PORT_FILE"])
    place.with_suffix(".new").write_text(str(port))
    place.with_suffix(".new").rename(place)
    await server.wait_for_termination()


def port_of_worker() -> int:
    place, deadline = Path(os.environ["BENCH_PORT_FILE"]), time.monotonic() + 30
    while not place.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker did not say its port")
        time.sleep(0.02)
    return int(place.read_text())


async def caller() -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port_of_worker()}") as channel:
        generate = channel.unary_stream(
            f"/{SERVICE}/{METHOD}",
            request_serializer=msgspec.msgpack.encode,
            response_deserializer=msgspec.msgpack.decode,
        )

        async def one(n: int, turns: bool) -> int:
            received = 0
            async for _item in generate({"n": n, "turns": turns, "prompt": PROMPT}):
                received += 1
            return received

        await measure(one)


uvloop.run({"worker": worker, "caller": caller}[sys.argv[1]]())
