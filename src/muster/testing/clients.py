"""The official clients against a frontend in this process, and the scripts its engines follow."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from muster.errors import MusterError
from muster.llm.protocol import CompletionUsage, EngineOutput, PromptTokensDetails
from muster.testing.frontends import running_frontend
from muster.testing.scripted import Script, ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids

__all__ = [
    "Tiny",
    "anthropic_client",
    "counting",
    "failing",
    "leave_once_seen",
    "openai_client",
    "prompt_of",
    "saying",
    "serving_anthropic",
    "serving_openai",
]

Tiny = Callable[..., ScriptedModel]
"""Makes a scripted model of the small model directory; arguments as for ``ScriptedModel``."""

_CLIENT: dict[str, Any] = {"api_key": "none", "max_retries": 0, "timeout": 20}


def saying(text: str, reason: str = "stop", *, size: int = 1) -> Script:
    """An engine that says ``text``, ``size`` bytes a batch, and ends for ``reason``."""

    def script(_: object) -> ScriptedStream:
        stream = ScriptedStream()
        items = outputs(token_ids(text), reason)
        for start in range(0, len(items), size):
            stream.push(*items[start : start + size])
        return stream.end()

    return script


def failing(error: MusterError, before: str = "") -> Script:
    """An engine that says ``before`` at once, if anything, and fails."""

    def script(_: object) -> ScriptedStream:
        stream = ScriptedStream()
        if before:
            stream.push(*outputs(token_ids(before)))
        return stream.fail(error)

    return script


def counting(prompt_tokens: int, *, cached: int) -> Script:
    """An engine that says ``A``, and how long the prompt was and how much of it was cached."""

    def script(_: object) -> ScriptedStream:
        usage = CompletionUsage(
            prompt_tokens=prompt_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=cached),
        )
        output = EngineOutput(token_ids=[65], finish_reason="stop", completion_usage=usage)
        return ScriptedStream().push(output).end()

    return script


async def leave_once_seen(
    model: ScriptedModel, port: int, path: str, body: Any, *, said: str, seen: bytes
) -> None:
    """Ask for a stream, and leave when the first of it is there; returns when the engine is stopped.

    Args:
        model: What the frontend at ``port`` serves.
        port: The frontend's.
        path: Where to ask.
        body: What to ask, as an object.
        said: What the engine says before it would go on.
        seen: What then comes.
    """
    text = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (path.encode(), len(text), text)
    )
    engine = await model.next_stream()
    engine.push(*outputs(token_ids(said)))
    await reader.readuntil(seen)
    writer.close()
    await engine.killed.wait()


def prompt_of(model: ScriptedModel, number: int = 0) -> str:
    """The text of the prompt of its request of that number, special tokens included."""
    ids = model.requests[number].token_ids
    return model.served.preprocessor.decode(ids, skip_special_tokens=False)


def openai_client(port: int, **options: Any) -> AsyncOpenAI:
    """A client of the frontend at ``port`` that does not try again."""
    return AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", **{**_CLIENT, **options})


def anthropic_client(port: int, **options: Any) -> AsyncAnthropic:
    """A client of the frontend at ``port`` that does not try again."""
    return AsyncAnthropic(base_url=f"http://127.0.0.1:{port}", **{**_CLIENT, **options})


@contextlib.asynccontextmanager
async def serving_openai(*models: ScriptedModel, **options: Any) -> AsyncIterator[AsyncOpenAI]:
    """A client of a frontend that serves ``models``; ``options`` as for ``running_frontend``."""
    async with (
        running_frontend(*models, **options) as frontend,
        openai_client(frontend.port) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def serving_anthropic(
    *models: ScriptedModel, **options: Any
) -> AsyncIterator[AsyncAnthropic]:
    """A client of a frontend that serves ``models``; ``options`` as for ``running_frontend``."""
    async with (
        running_frontend(*models, **options) as frontend,
        anthropic_client(frontend.port) as client,
    ):
        yield client
