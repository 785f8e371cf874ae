"""What an HTTP server costs before it does anything: aiohttp's low-level one, and Muster's.

Both run on uvloop and answer the same POST with the same bytes, whole or as 8 streamed parts a turn
of the loop apart; wrk asks. Rounds are interleaved; prints medians of CPU time per request (user
and kernel) as JSON.

    python benchmarks/http_server.py [--seconds 3] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

from muster.http.exchange import Exchange
from muster.http.limits import HttpLimits
from muster.http.server import HttpServer

REPLY = (
    b'{"choices":[{"index":0,"message":{"role":"assistant","content":"' + b"word " * 16 + b'"}}]}'
)
PARTS = 8
SCRIPT = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"model":"bench","messages":[{"role":"user","content":"Write a short poem."}]}'
"""


async def aiohttp_whole(request: web.BaseRequest) -> web.StreamResponse:
    await request.read()
    return web.Response(body=REPLY, content_type="application/json")


async def aiohttp_stream(request: web.BaseRequest) -> web.StreamResponse:
    await request.read()
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(PARTS):
        await asyncio.sleep(0)
        await response.write(REPLY)
    await response.write_eof()
    return response


async def muster_whole(exchange: Exchange) -> None:
    exchange.respond(200, REPLY)


async def muster_stream(exchange: Exchange) -> None:
    exchange.start_stream()
    for _ in range(PARTS):
        await asyncio.sleep(0)
        exchange.write(REPLY)
        if exchange.congested:
            await exchange.drained()
    exchange.end()


def refuse(exchange: Exchange, status: int, message: str) -> None:
    exchange.respond(status, message.encode())


async def load(port: int, script: Path, seconds: int) -> dict[str, float]:
    before = resource.getrusage(resource.RUSAGE_SELF)
    process = await asyncio.create_subprocess_exec(
        "wrk", "-t1", "-c16", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}/",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out = (await process.communicate())[0].decode()
    after = resource.getrusage(resource.RUSAGE_SELF)
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(out)
    found = re.search(r"(\d+) requests in", out)
    if found is None:
        raise SystemExit(out)
    requests = int(found[1])
    return {
        "requests_per_s": requests / seconds,
        "user_us": (after.ru_utime - before.ru_utime) / requests * 1e6,
        "system_us": (after.ru_stime - before.ru_stime) / requests * 1e6,
    }


async def with_aiohttp(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], script: Path, seconds: int
) -> dict[str, float]:
    runner = web.ServerRunner(web.Server(handler, access_log=None, handler_cancellation=True))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        return await load(runner.addresses[0][1], script, seconds)
    finally:
        await runner.cleanup()


async def with_muster(
    handler: Callable[[Exchange], Awaitable[None]], script: Path, seconds: int
) -> dict[str, float]:
    server = HttpServer(handler, refuse, HttpLimits())
    await server.start("127.0.0.1", 0)
    try:
        return await load(server.port, script, seconds)
    finally:
        await server.close()


async def measure(seconds: int, rounds: int, script: Path) -> dict[str, dict[str, float]]:
    rows: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for name, running in (
            ("aiohttp_whole", with_aiohttp(aiohttp_whole, script, seconds)),
            ("muster_whole", with_muster(muster_whole, script, seconds)),
            ("aiohttp_stream", with_aiohttp(aiohttp_stream, script, seconds)),
            ("muster_stream", with_muster(muster_stream, script, seconds)),
        ):
            rows.setdefault(name, []).append(await running)
    return {
        name: {key: round(statistics.median(row[key] for row in found), 1) for key in found[0]}
        for name, found in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "post.lua"
        script.write_text(SCRIPT)
        results = uvloop.run(measure(options.seconds, options.rounds, script))
    report = {
        "benchmark": "http_server",
        "aiohttp": aiohttp.__version__,
        "command": sys.argv,
        "results": results,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
