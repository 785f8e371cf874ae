"""Streams over real sockets: when they begin, what they say while silent, and readers that stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from muster.config.settings import GuardSettings
from muster.errors import EngineError
from muster.llm.protocol import EngineOutput
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids, write_tiny_model

ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@contextlib.asynccontextmanager
async def asking(
    model: ScriptedModel, route: str = "/v1/chat/completions", **http: Any
) -> AsyncIterator[Any]:
    """A function that asks for a stream, on connections that are kept."""
    async with running_frontend(model, **http) as frontend, aiohttp.ClientSession() as session:

        def ask(**fields: Any) -> Any:
            body = {"model": "tiny", "stream": True, **ROUTES[route], **fields}
            return session.post(f"http://127.0.0.1:{frontend.port}{route}", json=body)

        yield ask


def events(text: str) -> list[Any]:
    lines = [line for line in text.split("\n\n") if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize("route", ROUTES)
def test_a_silent_stream_says_that_it_lives(directory: Path, route: str) -> None:
    model = ScriptedModel(directory)

    async def test() -> None:
        async with (
            asking(model, route, keep_alive_ms=50, error_peek_ms=10) as ask,
            ask() as response,
        ):
            stream = await model.next_stream()
            seen = b""
            while b":\n\n:\n\n" not in seen:
                seen += await response.content.readany()
            stream.push(*outputs(token_ids("hi"), "stop")).end()
            assert "hi" in await response.text()

    run(test())


def test_by_default_a_stream_is_silent_for_longer_than_this(directory: Path) -> None:
    model = ScriptedModel(directory)

    async def test() -> None:
        async with asking(model) as ask, ask() as response:
            stream = await model.next_stream()
            await asyncio.sleep(0.5)
            stream.push(*outputs(token_ids("hi"), "stop")).end()
            assert not any(line.startswith(":") for line in (await response.text()).splitlines())

    run(test())


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("options", [None, {"include_usage": False}])
def test_usage_can_be_forced_on_every_stream(
    directory: Path, route: str, options: dict[str, Any] | None
) -> None:
    def script(_: object) -> ScriptedStream:
        return ScriptedStream().push(*outputs(token_ids("hi"), "stop")).end()

    async def test() -> None:
        for force, expected in ((True, 2), (False, None)):
            model = ScriptedModel(directory, script=script)
            async with (
                asking(model, route, force_usage=force) as ask,
                ask(stream_options=options) as response,
            ):
                last = events(await response.text())[-1]
                assert (last.get("usage") or {}).get("completion_tokens") == expected

    run(test())


@pytest.mark.parametrize(("peek_ms", "status"), [(10_000, 500), (0, 200), (20, 200)])
def test_an_error_has_a_status_while_the_headers_wait(
    directory: Path, peek_ms: int, status: int
) -> None:
    model = ScriptedModel(directory)

    async def test() -> None:
        async with asking(model, error_peek_ms=peek_ms) as ask, asyncio.TaskGroup() as tasks:

            async def answer() -> tuple[int, str]:
                async with ask() as response:
                    return response.status, await response.text()

            task = tasks.create_task(answer())
            stream = await model.next_stream()
            await asyncio.sleep(0.2)
            stream.fail(EngineError("broken"))
            got, text = await task
            assert got == status
            assert "broken" in text
            assert text.endswith("data: [DONE]\n\n") is (status == 200)

    run(test())


def test_healthy_streams_do_not_wait_for_the_peek(directory: Path) -> None:
    """The peek is longer than the test may take; connections are used again."""

    def script(_: object) -> ScriptedStream:
        return ScriptedStream().push(*outputs(token_ids("hi"), "stop")).end()

    async def test() -> None:
        async with asking(ScriptedModel(directory, script=script), error_peek_ms=600_000) as ask:
            for _ in range(5):
                async with ask() as response:
                    assert "hi" in await response.text()

    run(test())


def test_a_reader_that_stops_holds_its_engine_back_and_nobody_else(directory: Path) -> None:
    """What it leaves unread stays with the engine; after the deadline it is dropped and counted."""
    taken = 0
    released = asyncio.Event()

    class Endless(ScriptedStream):
        async def batch(self) -> list[EngineOutput]:
            nonlocal taken
            taken += 1
            await asyncio.sleep(0)
            return [EngineOutput(token_ids=token_ids("x" * 4000))]

        def kill(self) -> None:
            released.set()

    def script(request: Any) -> ScriptedStream:
        if request.stop_conditions.max_tokens == 5:
            return ScriptedStream().push(*outputs(token_ids("hi"), "stop")).end()
        return Endless()

    async def test() -> None:
        model = ScriptedModel(directory, script=script, context_length=1 << 40)
        guard = GuardSettings(write_timeout_s=1.0)
        async with (
            running_frontend(model, guard=guard) as frontend,
            aiohttp.ClientSession() as session,
        ):
            base = f"http://127.0.0.1:{frontend.port}"
            _, writer = await asyncio.open_connection("127.0.0.1", frontend.port, limit=1)
            writer.transport.pause_reading()  # type: ignore[attr-defined] # is a ReadTransport, too
            body = json.dumps({"model": "tiny", "stream": True, "prompt": "p"}).encode()
            writer.write(
                b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
            # Until nothing more is taken from the engine.
            before = -1
            while taken == 0 or taken != before:
                before = taken
                await asyncio.sleep(0.1)
            held = taken
            assert held < 10_000  # 40 MB, and what the kernel holds is most of it
            asked = {"model": "tiny", "stream": True, "prompt": "p", "max_tokens": 5}
            async with session.post(f"{base}/v1/completions", json=asked) as response:
                assert "hi" in await response.text()
            assert taken == held
            await released.wait()
            async with session.get(f"{base}/metrics") as response:
                told = await response.text()
            assert "muster_http_slow_readers_total 1.0" in told
            assert 'dynamo_frontend_model_cancellation_total{model="tiny"} 1.0' in told
            assert "dynamo_frontend_model_rejection_total{" not in told
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    run(test())
