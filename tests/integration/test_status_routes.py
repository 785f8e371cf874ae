"""A worker's own routes on its status server: callbacks under ``/engine``, and LoRAs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from yarl import URL

from muster.config.settings import SystemSettings
from muster.errors import InvalidArgument
from muster.runtime.metadata.registry import MetadataArtifactRegistry
from muster.runtime.serving.health import HealthReport
from muster.runtime.status.engine_routes import EngineRoutes
from muster.runtime.status.lora_routes import EndpointLoras, LoraReply, LoraRoutes
from muster.runtime.status.server import StatusServer

ECHO = b'{"a": 1.0, "b": [null, "\xc3\xa9"]}'
LOAD = {"lora_name": "a", "source": {"uri": "file:///x"}}


class Reply(msgspec.Struct):
    status: int
    content_type: str
    allow: str | None
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Adapters:
    """A manager of LoRAs that keeps names in a dictionary."""

    def __init__(self) -> None:
        self.loaded: dict[str, int] = {}

    async def list_loras(self) -> LoraReply:
        return LoraReply(loras=dict(self.loaded), count=len(self.loaded))

    async def load_lora(self, name: str, uri: str) -> LoraReply:
        if not uri.startswith("file://"):
            raise ValueError(f"no adapter at {uri}")
        self.loaded[name] = len(self.loaded) + 1
        return LoraReply(message="loaded", lora_name=name, lora_id=self.loaded[name])

    async def unload_lora(self, name: str) -> LoraReply:
        if name not in self.loaded:
            raise InvalidArgument(f"there is no LoRA {name!r}")
        return LoraReply(message="unloaded", lora_name=name, lora_id=self.loaded.pop(name))


class Fixture:
    """A running server with callbacks and LoRAs."""

    def __init__(self, settings: SystemSettings, loras: Any = None) -> None:
        self.engine = EngineRoutes(settings)
        self.loras = LoraRoutes(settings, loras or Adapters())
        self.server = StatusServer(
            settings,
            MetadataArtifactRegistry(),
            lambda: HealthReport(ready=True, uptime_s=0, endpoints={}),
            CollectorRegistry(),
            engine=self.engine,
            loras=self.loras,
        )
        self.session: aiohttp.ClientSession

    async def ask(self, path: str, method: str = "GET", **more: Any) -> Reply:
        url = URL(f"http://127.0.0.1:{self.server.port}{path}", encoded=True)
        async with self.session.request(method, url, **more) as reply:
            return Reply(
                reply.status, reply.content_type, reply.headers.get("allow"), await reply.read()
            )


def run(test: Callable[[Fixture], Awaitable[None]], *, loras: Any = None, **settings: Any) -> None:
    async def main() -> None:
        system = SystemSettings(host="127.0.0.1", port=0, lora_enabled=True)
        fixture = Fixture(dataclasses.replace(system, **settings), loras)
        async with (
            fixture.server,
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
        ):
            fixture.session = session
            await test(fixture)

    asyncio.run(main())


async def echo(body: Any) -> Any:
    return {"got": body}


# -- /engine -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_a_callback_answers_every_method_and_no_body_is_an_empty_object(method: str) -> None:
    async def test(at: Fixture) -> None:
        at.engine.register("echo", echo)
        reply = await at.ask("/engine/echo?x=1", method)
        assert (reply.status, reply.body) == (200, b'{"got":{}}')
        assert reply.content_type == "application/json"
        assert (await at.ask("/engine/echo", "HEAD")).body == b""

    run(test)


@pytest.mark.parametrize(
    ("body", "result"),
    [
        (ECHO, b'{"got":{"a":1.0,"b":[null,"\xc3\xa9"]}}'),
        (b"[1, 2]", b'{"got":[1,2]}'),
        (b"5", b'{"got":5}'),
        (b"null", b'{"got":null}'),
        (b' {"a": {"a": 1}} ', b'{"got":{"a":{"a":1}}}'),
    ],
)
def test_a_callback_is_given_the_json_of_the_body(body: bytes, result: bytes) -> None:
    async def test(at: Fixture) -> None:
        at.engine.register("echo", echo)
        for method in ("POST", "GET"):
            assert (await at.ask("/engine/echo", method, data=body)).body == result

    run(test)


@pytest.mark.parametrize("body", [b"{bad", b"   ", b"\xff", b"[" * 100_000, b"NaN", b'{"a":1}x'])
def test_a_body_that_is_no_json_is_a_400(body: bytes) -> None:
    async def test(at: Fixture) -> None:
        at.engine.register("echo", echo)
        reply = await at.ask("/engine/echo", "POST", data=body)
        assert reply.status == 400
        assert reply.json["error"] == "Invalid JSON"
        assert reply.json["message"]

    run(test)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("none", "none"),
        ("echo/", "echo/"),
        ("/echo", "/echo"),
        ("ECHO", "ECHO"),
        ("no%20ne%C3%A9", "no neé"),
    ],
)
def test_an_unknown_callback_is_a_404_that_names_it(path: str, name: str) -> None:
    async def test(at: Fixture) -> None:
        at.engine.register("echo", echo)
        reply = await at.ask(f"/engine/{path}", "POST")
        assert reply.status == 404
        assert reply.json == {
            "error": "Route not found",
            "message": f"Route /engine/{name} not found",
        }

    run(test)


def test_names_may_have_slashes_and_escapes_are_decoded_once() -> None:
    async def test(at: Fixture) -> None:
        at.engine.register("control/start", echo)
        at.engine.register("a%2Fb", echo)
        for path in ("control/start", "control%2Fstart", "a%252Fb"):
            assert (await at.ask(f"/engine/{path}")).status == 200
        assert (await at.ask("/engine/a%2Fb")).status == 404
        assert (await at.ask("/engine/a%ff")).body == b"Invalid URL: Invalid UTF-8 in `path`"

    run(test)


def test_a_callback_that_raises_is_a_500_with_its_class_and_text() -> None:
    async def boom(_: Any) -> Any:
        raise ValueError('bad "thing"')

    async def refused(_: Any) -> Any:
        raise InvalidArgument("too many")

    async def test(at: Fixture) -> None:
        at.engine.register("boom", boom)
        at.engine.register("refused", refused)
        reply = await at.ask("/engine/boom")
        assert reply.status == 500
        assert reply.json == {
            "error": "Handler error",
            "message": 'Python callback failed: ValueError: bad "thing"',
        }
        reply = await at.ask("/engine/refused")
        assert reply.json["message"] == "Python callback failed: InvalidArgument: too many"

    run(test)


def test_what_json_cannot_say_is_a_500() -> None:
    async def odd(body: Any) -> Any:
        return {"object": object(), "surrogate": "\ud800", "self": None}[body["which"]]

    async def endless(_: Any) -> Any:
        value: list[Any] = []
        value.append(value)
        return value

    async def test(at: Fixture) -> None:
        at.engine.register("odd", odd)
        at.engine.register("endless", endless)
        for path, body in (
            ("odd", {"which": "object"}),
            ("odd", {"which": "surrogate"}),
            ("endless", {}),
        ):
            reply = await at.ask(f"/engine/{path}", "POST", json=body)
            assert reply.status == 500
            assert reply.json["error"] == "Handler error"
            assert reply.json["message"].startswith("Failed to serialize response: ")
        reply = await at.ask("/engine/odd", "POST", json={"which": "self"})
        assert (reply.status, reply.body) == (200, b"null")

    run(test)


def test_a_callback_that_is_not_async_is_a_500_and_not_a_broken_connection() -> None:
    def plain(_: Any) -> Any:
        return {}

    async def test(at: Fixture) -> None:
        at.engine.register("plain", plain)
        reply = await at.ask("/engine/plain")
        assert reply.status == 500
        assert "Python callback failed: TypeError" in reply.json["message"]

    run(test)


def test_a_route_needs_a_name_and_something_to_call() -> None:
    engine = EngineRoutes(SystemSettings())
    with pytest.raises(InvalidArgument, match="needs a name"):
        engine.register("", echo)
    with pytest.raises(InvalidArgument, match="'x' cannot be called"):
        engine.register("x", None)  # type: ignore[arg-type]


def test_the_last_callback_of_a_name_answers() -> None:
    async def other(_: Any) -> Any:
        return "other"

    async def test(at: Fixture) -> None:
        at.engine.register("echo", echo)
        at.engine.register("echo", other)
        assert (await at.ask("/engine/echo")).json == "other"

    run(test)


def test_a_body_above_the_limit_is_refused_with_and_without_a_length() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"1" * 64

    async def test(at: Fixture) -> None:
        at.engine.register("echo", echo)
        assert (await at.ask("/engine/echo", "POST", data=b"1" * 1000)).status == 200
        for data in (b"1" * 1001, pieces()):
            reply = await at.ask("/engine/echo", "POST", data=data)
            assert reply.status == 413
            assert reply.body == b"Failed to buffer the request body: length limit exceeded"

    run(test, body_limit_bytes=1000)


@pytest.mark.parametrize("head", ["POST /engine/echo", "POST /v1/loras"])
def test_a_body_that_does_not_arrive_is_a_408(head: str) -> None:
    async def test(at: Fixture) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.server.port)
        fields = "Host: t\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
        writer.write(f"{head} HTTP/1.1\r\n{fields}123".encode())
        line = await asyncio.wait_for(reader.readline(), 20)
        assert line.startswith(b"HTTP/1.1 408 ")
        writer.transport.abort()

    run(test, body_timeout_s=0.05)


def test_a_client_that_waits_for_leave_to_send_gets_it() -> None:
    async def test(at: Fixture) -> None:
        at.engine.register("echo", echo)
        reply = await at.ask("/engine/echo", "POST", data=ECHO, expect100=True)
        assert reply.status == 200

    run(test)


def test_a_callback_that_takes_too_long_is_cancelled_and_a_504() -> None:
    cancelled = asyncio.Event()

    async def slow(_: Any) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def test(at: Fixture) -> None:
        at.engine.register("slow", slow)
        reply = await at.ask("/engine/slow")
        assert reply.status == 504
        assert reply.json["error"] == "Handler timeout"
        assert "Route /engine/slow: no result within 0.05 s" in reply.json["message"]
        await asyncio.wait_for(cancelled.wait(), 20)

    run(test, callback_timeout_s=0.05)


def test_callbacks_run_side_by_side_up_to_the_limit() -> None:
    together, release = asyncio.Barrier(4), asyncio.Event()

    async def wait(_: Any) -> Any:
        await together.wait()
        await release.wait()
        return "done"

    async def at_once(_: Any) -> Any:
        return "at once"

    async def test(at: Fixture) -> None:
        at.engine.register("wait", wait)
        at.engine.register("at_once", at_once)
        asked = [asyncio.ensure_future(at.ask("/engine/wait")) for _ in range(3)]
        await asyncio.wait_for(together.wait(), 20)
        refused = await at.ask("/engine/at_once")
        assert refused.status == 503
        assert refused.json["error"] == "Too many requests"
        release.set()
        assert [(await each).json for each in asked] == ["done"] * 3
        assert (await at.ask("/engine/at_once")).json == "at once"

    run(test, callback_limit=3)


def test_a_callback_goes_on_when_its_client_hangs_up() -> None:
    began, release, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(_: Any) -> Any:
        began.set()
        await release.wait()
        ended.set()

    async def test(at: Fixture) -> None:
        at.engine.register("work", work)
        asked = asyncio.ensure_future(at.ask("/engine/work"))
        await asyncio.wait_for(began.wait(), 20)
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
        await at.ask("/live")
        release.set()
        await asyncio.wait_for(ended.wait(), 20)

    run(test)


def test_closing_the_server_cancels_callbacks_and_tells_their_clients() -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def work(_: Any) -> Any:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def test(at: Fixture) -> None:
        at.engine.register("work", work)
        asked = asyncio.ensure_future(at.ask("/engine/work"))
        await asyncio.wait_for(began.wait(), 20)
        await at.server.close()
        assert cancelled.is_set()
        reply = await asked
        assert reply.status == 503
        assert reply.json["error"] == "Shutting down"

    run(test)


def test_closing_does_not_wait_for_ever_for_a_callback_that_ignores_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    async def stubborn(_: Any) -> Any:
        began.set()
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    async def test(at: Fixture) -> None:
        at.engine.register("stubborn", stubborn)
        asked = asyncio.ensure_future(at.ask("/engine/stubborn"))
        await asyncio.wait_for(began.wait(), 20)
        async with asyncio.timeout(20):
            await at.server.close(timeout_s=0.1)
        assert "calls do not stop" in caplog.text
        release.set()
        with contextlib.suppress(aiohttp.ClientError):
            await asked

    run(test)


# -- /v1/loras ---------------------------------------------------------------------------------


def test_loras_are_loaded_listed_and_unloaded() -> None:
    async def test(at: Fixture) -> None:
        assert (await at.ask("/v1/loras")).body == b'{"status":"success","loras":{},"count":0}'
        reply = await at.ask("/v1/loras", "POST", json=LOAD | {"more": 1})
        assert reply.status == 200
        assert reply.content_type == "application/json"
        assert reply.body == (
            b'{"status":"success","message":"loaded","lora_name":"a","lora_id":1}'
        )
        await at.ask("/v1/loras", "POST", json=LOAD | {"lora_name": "b/é"})
        assert (await at.ask("/v1/loras")).json["loras"] == {"a": 1, "b/é": 2}
        for path in ("a", "b%2F%C3%A9"):
            assert (await at.ask(f"/v1/loras/{path}", "DELETE")).status == 200
        assert (await at.ask("/v1/loras")).json["count"] == 0

    run(test)


def test_what_a_manager_raises_is_an_error_in_the_peers_shape() -> None:
    async def test(at: Fixture) -> None:
        load = LOAD | {"source": {"uri": "s3://x"}}
        reply = await at.ask("/v1/loras", "POST", json=load)
        assert reply.status == 500
        assert reply.json == {
            "status": "error",
            "message": "ValueError: no adapter at s3://x",
            "lora_name": "a",
        }
        reply = await at.ask("/v1/loras/none", "DELETE")
        assert reply.status == 500
        assert reply.json["message"] == "there is no LoRA 'none'"

    run(test)


def test_there_are_no_lora_routes_unless_they_are_turned_on() -> None:
    async def test(at: Fixture) -> None:
        for path, method in (("", "GET"), ("", "POST"), ("/a", "DELETE")):
            reply = await at.ask(f"/v1/loras{path}", method)
            assert (reply.status, reply.body) == (404, b"Route not found")

    run(test, lora_enabled=False)


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [
        ("/v1/loras", "DELETE", "GET,HEAD,POST"),
        ("/v1/loras", "PUT", "GET,HEAD,POST"),
        ("/v1/loras/a", "GET", "DELETE"),
        ("/v1/loras/a", "POST", "DELETE"),
    ],
)
def test_other_methods_of_lora_routes_are_not_allowed(path: str, method: str, allow: str) -> None:
    async def test(at: Fixture) -> None:
        reply = await at.ask(path, method)
        assert (reply.status, reply.allow, reply.body) == (405, allow, b"")

    run(test)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "Failed to parse the request body as JSON"),
        (b"{bad", 400, "Failed to parse the request body as JSON"),
        (b"{}", 422, "lora_name"),
        (b'{"lora_name": "x"}', 422, "source"),
        (b'{"lora_name": 5, "source": {"uri": "x"}}', 422, "lora_name"),
        (b'{"lora_name": "x", "source": {}}', 422, "uri"),
        (b'{"lora_name": "", "source": {"uri": "x"}}', 422, "`lora_name` is empty"),
        (b'{"lora_name": "x", "source": {"uri": ""}}', 422, "`source.uri` is empty"),
    ],
)
def test_a_load_request_that_says_too_little_is_refused(
    body: bytes, status: int, words: str
) -> None:
    async def test(at: Fixture) -> None:
        headers = {"content-type": "application/json"}
        reply = await at.ask("/v1/loras", "POST", data=body, headers=headers)
        assert reply.status == status
        assert words in reply.body.decode()

    run(test)


def test_a_load_request_has_to_be_json_within_the_limit_and_a_name_utf8() -> None:
    async def test(at: Fixture) -> None:
        reply = await at.ask("/v1/loras", "POST", data=b"{}")
        assert reply.status == 415
        assert b"Content-Type: application/json" in reply.body
        reply = await at.ask("/v1/loras", "POST", json=LOAD | {"more": "x" * 2000})
        assert reply.status == 413
        reply = await at.ask("/v1/loras/%ff", "DELETE")
        assert (reply.status, reply.body) == (400, b"Invalid URL: Invalid UTF-8 in `lora_name`")
        assert (await at.ask("/v1/loras/", "DELETE")).status == 404

    run(test, body_limit_bytes=1000)


async def _load(request: Any) -> AsyncIterator[Any]:
    name = request["lora_name"]
    if name == "raises":
        raise ValueError("boom")
    if name == "refused":
        yield {"status": "error", "message": "no place", "lora_name": name}
    elif name == "odd":
        yield 5
    elif name != "silent":
        yield {"status": "success", "lora_name": name, "lora_id": 7, "hot_swap": False}
        raise AssertionError("only the first item is asked for")


async def _list(request: Any) -> AsyncIterator[Any]:
    assert request == {}
    yield {"status": "success", "loras": {"a": 7}, "count": 1}


@pytest.mark.parametrize(
    ("name", "status", "body"),
    [
        ("a", 200, {"status": "success", "lora_name": "a", "lora_id": 7}),
        ("refused", 500, {"status": "error", "message": "no place", "lora_name": "refused"}),
        ("raises", 500, {"status": "error", "message": "ValueError: boom", "lora_name": "raises"}),
        (
            "silent",
            500,
            {
                "status": "error",
                "message": "No response received from endpoint 'load_lora'",
                "lora_name": "silent",
            },
        ),
    ],
)
def test_endpoints_of_a_dynamo_engine_manage_loras(
    name: str, status: int, body: dict[str, Any]
) -> None:
    async def test(at: Fixture) -> None:
        reply = await at.ask("/v1/loras", "POST", json=LOAD | {"lora_name": name})
        assert (reply.status, reply.json) == (status, body)
        assert (await at.ask("/v1/loras")).json == {
            "status": "success",
            "loras": {"a": 7},
            "count": 1,
        }

    run(test, loras=EndpointLoras({"load_lora": _load, "list_loras": _list}.get))


def test_endpoints_that_are_missing_or_give_no_reply_are_errors() -> None:
    async def test(at: Fixture) -> None:
        reply = await at.ask("/v1/loras", "POST", json=LOAD | {"lora_name": "odd"})
        assert reply.status == 500
        assert "gave no reply" in reply.json["message"]
        reply = await at.ask("/v1/loras/a", "DELETE")
        assert reply.status == 500
        assert reply.json["lora_name"] == "a"
        assert "'unload_lora'" in reply.json["message"]
        at.loras.register(Adapters())
        assert (await at.ask("/v1/loras")).json["count"] == 0

    run(test, loras=EndpointLoras({"load_lora": _load}.get))


def test_a_load_that_takes_too_long_is_a_504_with_the_name() -> None:
    class Slow(Adapters):
        async def load_lora(self, name: str, uri: str) -> LoraReply:
            await asyncio.Event().wait()
            raise AssertionError(name, uri)

    async def test(at: Fixture) -> None:
        reply = await at.ask("/v1/loras", "POST", json=LOAD)
        assert reply.status == 504
        assert reply.json["lora_name"] == "a"
        assert "no result within 0.05 s" in reply.json["message"]

    run(test, loras=Slow(), callback_timeout_s=0.05)
