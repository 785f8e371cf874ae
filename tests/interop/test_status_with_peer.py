"""The same requests to a real Dynamo worker's status server and to ours; the same answers."""

from __future__ import annotations

import asyncio
import io
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from yarl import URL

from muster.config.settings import SystemSettings
from muster.names import EndpointId
from muster.runtime.metadata.registry import MetadataArtifactRegistry
from muster.runtime.serving.health import HealthBoard
from muster.runtime.status.engine_routes import EngineRoutes
from muster.runtime.status.lora_routes import EndpointLoras, LoraRoutes
from muster.runtime.status.server import StatusServer
from muster.testing.ports import free_port
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

CALLBACKS = """
async def echo(body):
    return {"got": body}

async def boom(body):
    raise ValueError('bad "thing"')

async def nothing(body):
    return None

async def several(body):
    return [1, "é", 2.5, True, {}]

CALLBACKS = {"echo": echo, "boom": boom, "nothing": nothing, "several": several,
             "control/start": echo}

async def generate(request, context=None):
    yield {"ok": True}

async def load_lora(request, context=None):
    name = request["lora_name"]
    assert request == {"lora_name": name, "source": {"uri": request["source"]["uri"]}}
    if name == "silent":
        return
    if name == "refused":
        yield {"status": "error", "message": "no place", "lora_name": name}
    else:
        yield {"status": "success", "message": "loaded", "lora_name": name, "lora_id": 7,
               "hot_swap": False}

async def unload_lora(request, context=None):
    assert set(request) == {"lora_name"}
    if request["lora_name"] == "none":
        yield {"status": "error", "message": "there is none"}
    else:
        yield {"status": "success", "message": "unloaded", "lora_name": request["lora_name"],
               "lora_id": 7}

async def list_loras(request, context=None):
    assert request == {}
    yield {"status": "success", "loras": {"a": 7}, "count": 1}

ENDPOINTS = {"generate": generate, "load_lora": load_lora, "unload_lora": unload_lora,
             "list_loras": list_loras}
"""

DYNAMO_WORKER = (
    "import asyncio\nfrom dynamo.runtime import DistributedRuntime\n"
    + CALLBACKS
    + """
async def main():
    runtime = DistributedRuntime(asyncio.get_running_loop(), "file", "tcp")
    for name, callback in CALLBACKS.items():
        runtime.register_engine_route(name, callback)
    await asyncio.gather(*(
        runtime.endpoint(f"interop.status.{name}").serve_endpoint(handler)
        for name, handler in ENDPOINTS.items()
    ))
asyncio.run(main())
"""
)

JSON = {"content-type": "application/json"}
LOAD = b'{"lora_name":"%s","source":{"uri":"file:///x"}}'


class Ask(msgspec.Struct, frozen=True):
    """A request."""

    path: str
    method: str = "GET"
    body: bytes | None = None
    headers: dict[str, str] = {}
    prefix: int | None = None
    """How much of the bodies has to agree where they end in a parser's own words; None: all."""


ASKED = [
    Ask("/nope"),
    Ask("/nope", "POST"),
    Ask("/health", "POST"),
    Ask("/live", "DELETE"),
    Ask("/metrics", "OPTIONS"),
    Ask("/metadata"),
    Ask("/metadata", "POST"),
    Ask("/engine"),
    Ask("/engine/"),
    Ask("/engine/none"),
    Ask("/engine/none", "POST", b'{"a":1}'),
    Ask("/engine/echo/"),
    Ask("/engine//echo"),
    Ask("/engine/no%20ne%C3%A9"),
    Ask("/engine/no%ff"),
    Ask("/engine/echo"),
    Ask("/engine/echo", "HEAD"),
    Ask("/engine/echo", "DELETE"),
    Ask("/engine/echo", "OPTIONS"),
    Ask("/engine/echo?a=b"),
    Ask("/engine/echo", "POST", b'{"a":1.0,"b":[null,"\\u00e9",-5],"a":2}'),
    Ask("/engine/echo", "GET", b'{"a":1}'),
    Ask("/engine/echo", "PUT", b"[1,2]"),
    Ask("/engine/echo", "POST", b"5"),
    Ask("/engine/echo", "POST", b"null"),
    Ask("/engine/echo", "POST", b"{bad", prefix=35),
    Ask("/engine/echo", "POST", b"  ", prefix=35),
    Ask("/engine/none", "POST", b"{bad", prefix=35),
    Ask("/engine/echo", "POST", b'"' + b"a" * (2 << 20) + b'"'),
    Ask("/engine/boom"),
    Ask("/engine/nothing"),
    Ask("/engine/several"),
    Ask("/engine/control/start"),
    Ask("/engine/control%2Fstart"),
    Ask("/v1/loras"),
    Ask("/v1/loras", "HEAD"),
    Ask("/v1/loras", "PUT"),
    Ask("/v1/loras", "DELETE"),
    Ask("/v1/loras/"),
    Ask("/v1/loras", "POST", LOAD % b"a", JSON),
    Ask("/v1/loras", "POST", LOAD % b"a", {"content-type": "application/x+json; charset=utf-8"}),
    Ask("/v1/loras", "POST", LOAD % b"a", {"content-type": "text/plain"}),
    Ask("/v1/loras", "POST", LOAD % b"refused", JSON),
    Ask("/v1/loras", "POST", LOAD % b"silent", JSON),
    Ask("/v1/loras", "POST", b"{bad", JSON, prefix=41),
    Ask("/v1/loras", "POST", b"", JSON, prefix=41),
    Ask("/v1/loras", "POST", b"{}", JSON, prefix=57),
    Ask("/v1/loras", "POST", b'{"lora_name":"x","source":{}}', JSON, prefix=57),
    Ask("/v1/loras/a", "DELETE"),
    Ask("/v1/loras/a", "GET"),
    Ask("/v1/loras/none", "DELETE"),
    Ask("/v1/loras/a%2Fb%C3%A9", "DELETE"),
    Ask("/v1/loras/a/b", "DELETE"),
    Ask("/v1/loras/%ff", "DELETE"),
]


class Answer(msgspec.Struct, frozen=True):
    status: int
    allow: str | None
    body: bytes


async def ask(session: aiohttp.ClientSession, port: int, what: Ask) -> Answer:
    url = URL(f"http://127.0.0.1:{port}{what.path}", encoded=True)
    async with session.request(
        what.method,
        url,
        data=None if what.body is None else io.BytesIO(what.body),
        headers=what.headers,
        skip_auto_headers=["content-type"],
    ) as reply:
        body = await reply.read()
        return Answer(reply.status, reply.headers.get("allow"), body[: what.prefix])


def page(port: int, path: str) -> dict[str, Any]:
    """The JSON of a page, whatever its status."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return dict(json.load(reply))
    except urllib.error.HTTPError as error:
        return dict(json.load(error))


@pytest.fixture
def dynamo_port(site: Site) -> Iterator[int]:
    port = free_port()
    worker = site.dynamo_script(
        DYNAMO_WORKER,
        role="dynamo-worker",
        DYN_SYSTEM_PORT=str(port),
        DYN_LORA_ENABLED="true",
        DYN_SYSTEM_STARTING_HEALTH_STATUS="ready",
    )
    try:
        wait_until(lambda: len(page(port, "/health")["endpoints"]) == 4, "endpoints of the peer")
    except TimeoutError:
        pytest.fail(worker.text()[-3000:])
    yield port
    worker.kill()


def ours() -> StatusServer:
    """A status server with the same callbacks and endpoints."""
    given: dict[str, Any] = {}
    exec(CALLBACKS, given)
    settings = SystemSettings(host="127.0.0.1", port=0, lora_enabled=True)
    engine = EngineRoutes(settings)
    for name, callback in given["CALLBACKS"].items():
        engine.register(name, callback)
    board = HealthBoard(instance_id=1)
    for name in given["ENDPOINTS"]:
        endpoint = EndpointId("interop", "status", name)
        board.add(endpoint)
        board.registered(endpoint)
    return StatusServer(
        settings,
        MetadataArtifactRegistry(),
        lambda: board.report(6.5),
        CollectorRegistry(),
        engine=engine,
        loras=LoraRoutes(settings, EndpointLoras(given["ENDPOINTS"].get)),
    )


async def both(port: int) -> AsyncIterator[tuple[Ask, Answer, Answer]]:
    """Each request with the peer's answer and ours."""
    timeout = aiohttp.ClientTimeout(total=30)
    async with ours() as server, aiohttp.ClientSession(timeout=timeout) as session:
        for what in ASKED:
            peers = await ask(session, port, what)
            yield what, peers, await ask(session, server.port, what)


def test_routes_answer_as_the_peers_do_byte_by_byte(dynamo_port: int) -> None:
    async def main() -> list[str]:
        return [
            f"{what.method} {what.path} {(what.body or b'')[:60]!r}: {peers} but {mine}"
            async for what, peers, mine in both(dynamo_port)
            if peers != mine
        ]

    differing = asyncio.run(main())
    assert not differing, "\n".join(differing)


def test_health_has_the_peers_fields_words_and_nesting(dynamo_port: int) -> None:
    async def main() -> dict[str, Any]:
        async with ours() as server:
            return await asyncio.to_thread(page, server.port, "/health")

    mine, peers = asyncio.run(main()), page(dynamo_port, "/health")
    assert set(peers) == {"status", "uptime", "endpoints"}
    assert set(mine) - set(peers) == {"instance_id"}
    assert set(mine["uptime"]) == set(peers["uptime"]) == {"secs", "nanos"}
    assert mine["endpoints"] == peers["endpoints"]
    assert mine["status"] == peers["status"] == "ready"
