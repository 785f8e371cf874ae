"""One line for each request that is no probe, over real sockets, as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from muster.config.settings import GuardSettings
from muster.errors import Disconnected
from muster.frontend.guard.keys import key_line, new_key
from muster.frontend.request_log import logger
from muster.log import JsonFormatter
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids, write_tiny_model

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
MESSAGE: dict[str, Any] = {**CHAT, "max_tokens": 9}


class Lines(logging.Handler):
    """The lines as they would be written, each when it is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.all: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(json.loads(self.format(record)))

    async def wait(self, count: int = 1) -> list[dict[str, Any]]:
        """The lines, once there are so many; a client may have its answer before the line."""
        async with asyncio.timeout(10):
            while len(self.all) < count:  # noqa: ASYNC110 - a handler tells nobody
                await asyncio.sleep(0.005)
        return self.all


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler = Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path)


def speaking(directory: Path) -> ScriptedModel:
    def script(_: object) -> ScriptedStream:
        stream = ScriptedStream().push(*outputs(token_ids("ok"), "stop")).end()
        stream.journey.instance_id = 0x7AB3
        return stream

    return ScriptedModel(directory, script=script)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"model": "tiny", "prompt": "hi"}),
        ("/v1/messages", MESSAGE),
        ("/v1/responses", {"model": "tiny", "input": "hi"}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_has_one_line_that_says_what_became_of_it(
    directory: Path, lines: Lines, path: str, body: dict[str, Any], stream: bool
) -> None:
    async def test() -> tuple[dict[str, Any], str]:
        async with (
            running_frontend(speaking(directory)) as frontend,
            aiohttp.ClientSession(f"http://127.0.0.1:{frontend.port}") as session,
        ):
            async with session.post(path, json={**body, "stream": stream}) as reply:
                assert reply.status == 200
                await reply.read()
            (line,) = await lines.wait()
            return line, reply.headers["x-request-id"]

    line, request_id = run(test())
    assert line["message"] == "request"
    assert (line["method"], line["path"], line["status"]) == ("POST", path, 200)
    assert line["model"] == "tiny"
    assert line["ms"] >= line["ttft_ms"] >= 0
    assert line["input_tokens"] > 0
    assert line["output_tokens"] == len(token_ids("ok"))
    assert (line["instance"], line["attempts"]) == ("7ab3", 1)
    assert line["client"].startswith("127.0.0.1:")
    assert line["request_id"] == request_id
    assert "error" not in line
    assert "caller" not in line


def test_probes_have_no_line_and_everything_else_has(directory: Path, lines: Lines) -> None:
    async def test() -> None:
        async with (
            running_frontend(speaking(directory)) as frontend,
            aiohttp.ClientSession(f"http://127.0.0.1:{frontend.port}") as session,
        ):
            for path in ("/live", "/health", "/metrics", "/v1/models", "/nowhere"):
                async with session.get(path) as reply:
                    await reply.read()
            await lines.wait(2)

    run(test())
    assert [(line["path"], line["status"], line.get("error")) for line in lines.all] == [
        ("/v1/models", 200, None),
        ("/nowhere", 404, "route_not_found"),
    ]


def test_a_refusal_says_its_code_and_a_name_of_the_clients_own(
    directory: Path, lines: Lines
) -> None:
    async def test() -> None:
        async with (
            running_frontend(speaking(directory)) as frontend,
            aiohttp.ClientSession(f"http://127.0.0.1:{frontend.port}") as session,
        ):
            for body in ({**CHAT, "model": "nobody" + "x" * 500}, {**CHAT, "temperature": 9}):
                named = {"x-request-id": "mine"}
                async with session.post("/v1/chat/completions", json=body, headers=named) as reply:
                    await reply.read()
            reader, writer = await asyncio.open_connection("127.0.0.1", frontend.port)
            writer.write(b"nonsense\r\n\r\n")
            await reader.read()
            writer.close()
            await lines.wait(3)

    run(test())
    unknown, wrong, malformed = lines.all
    assert (unknown["status"], unknown["error"]) == (404, "model_not_found")
    assert unknown["model"] == "nobody" + "x" * 94
    assert (wrong["status"], wrong["error"]) == (400, "invalid_value")
    assert {line.get("x_request_id", line["request_id"]) for line in (unknown, wrong)} == {"mine"}
    assert (malformed["status"], malformed["error"]) == (400, "bad_request")


@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_leaves_has_a_line_with_499(
    directory: Path, lines: Lines, begun: bool
) -> None:
    async def test() -> None:
        model = ScriptedModel(directory)
        async with running_frontend(model) as frontend:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{frontend.port}") as session:
                asking = asyncio.create_task(
                    session.post("/v1/chat/completions", json={**CHAT, "stream": True})
                )
                stream = await model.next_stream()
                if begun:
                    stream.push(*outputs(token_ids("ok")))
                    reply = await asking
                    await reply.content.readany()
                    reply.close()
                else:
                    asking.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await asking
            await lines.wait()

    run(test())
    (line,) = lines.all
    assert (line["status"], line["error"]) == (499, "client_disconnected")
    assert line["output_tokens"] == (len(token_ids("ok")) if begun else 0)


def test_a_stream_that_fails_after_its_status_says_why(directory: Path, lines: Lines) -> None:
    def script(_: object) -> ScriptedStream:
        return ScriptedStream().push(*outputs(token_ids("ok"))).fail(Disconnected("gone"))

    async def test() -> None:
        async with (
            running_frontend(ScriptedModel(directory, script=script)) as frontend,
            aiohttp.ClientSession(f"http://127.0.0.1:{frontend.port}") as session,
        ):
            for path, body in (("/v1/chat/completions", CHAT), ("/v1/messages", MESSAGE)):
                async with session.post(path, json={**body, "stream": True}) as reply:
                    await reply.read()
            await lines.wait(2)

    run(test())
    assert [(line["status"], line["error"]) for line in lines.all] == [(200, "disconnected")] * 2


def test_the_line_names_who_asked_and_never_the_key(
    directory: Path, tmp_path: Path, lines: Lines
) -> None:
    key = new_key()
    path = tmp_path / "keys"
    path.write_text(key_line("alice", key) + "\n")

    async def test() -> None:
        guard = GuardSettings(keys_file=path)
        async with (
            running_frontend(speaking(directory), guard=guard) as frontend,
            aiohttp.ClientSession(f"http://127.0.0.1:{frontend.port}") as session,
        ):
            for headers in ({"authorization": f"Bearer {key}"}, {"x-api-key": "wrong"}):
                async with session.post(
                    "/v1/chat/completions", json=CHAT, headers=headers
                ) as reply:
                    await reply.read()
            await lines.wait(2)

    run(test())
    good, bad = lines.all
    assert (good["status"], good["caller"]) == (200, "alice")
    assert (bad["status"], bad["error"], bad.get("caller")) == (401, "invalid_api_key", None)
    assert key not in json.dumps(lines.all)
