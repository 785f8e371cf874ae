"""A whole deployment for the official clients: engines, workers' metadata, a frontend's real socket.

It runs on a thread of its own, so that a test may use the clients that block as well.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar

from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncOpenAI, OpenAI

from muster.discovery.memory import MemoryRegistry
from muster.errors import (
    EngineError,
    InvalidArgument,
    MusterError,
    Overloaded,
    WorkerUnavailable,
)
from muster.llm.protocol import EngineRequest
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.publish.register import register_model
from muster.model.runtime_config import ModelRuntimeConfig
from muster.runtime import Context, DistributedRuntime
from muster.testing.fleet import SURFACES, FleetSite, frontend, serve, worker
from muster.testing.tiny_model import write_tiny_model
from muster.worker.embedding import EmbeddingHandler
from muster.worker.engines.echo import EchoEngine, EchoSettings
from muster.worker.engines.mock import MockEngine, MockSettings
from muster.worker.engines.mock_embedder import MockEmbedder, MockEmbedderSettings
from muster.worker.engines.request import Item, read_request
from muster.worker.engines.timing import Timing

__all__ = [
    "Background",
    "Deployment",
    "FailingEngine",
    "Running",
    "ScoredEngine",
    "background",
    "deployed",
    "write_parrot_model",
]

T = TypeVar("T")

_CLIENT: dict[str, Any] = {"api_key": "none", "max_retries": 0, "timeout": 20}
_FAILURES: dict[str, type[MusterError]] = {
    error.__name__: error for error in (InvalidArgument, EngineError, WorkerUnavailable, Overloaded)
}


class Deployment:
    """A running frontend, and how the official clients reach it.

    Args:
        url: Without a path.
        engine: What answers ``model``, as tests call it: ``mock``, ``echo`` or a peer's.
        model: Its name.
    """

    def __init__(self, url: str, *, engine: str, model: str) -> None:
        self.url = url
        self.engine = engine
        self.model = model

    def openai(self, **options: Any) -> OpenAI:
        """The client that blocks; it does not try again."""
        return OpenAI(base_url=f"{self.url}/v1", **{**_CLIENT, **options})

    def async_openai(self, **options: Any) -> AsyncOpenAI:
        """The client for an event loop; it does not try again."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", **{**_CLIENT, **options})

    def anthropic(self, **options: Any) -> Anthropic:
        """The client that blocks; it does not try again."""
        return Anthropic(base_url=self.url, **{**_CLIENT, **options})

    def async_anthropic(self, **options: Any) -> AsyncAnthropic:
        """The client for an event loop; it does not try again."""
        return AsyncAnthropic(base_url=self.url, **{**_CLIENT, **options})


class ScoredEngine:
    """The echo, with log probabilities: token ``n`` of a reply has ``-n/8``, the next likeliest less."""

    def __init__(self) -> None:
        self._echo = EchoEngine()

    async def generate(
        self, request: EngineRequest | dict[str, Any], context: Context
    ) -> AsyncGenerator[Item, None]:
        """Give back the prompt, with scores if they are asked for."""
        typed = read_request(request)
        wanted = typed.output_options.logprobs
        number = 0
        async for item in self._echo.generate(typed, context):
            if wanted is not None and item["token_ids"]:
                (token,) = item["token_ids"]
                score = -number / 8
                tops = [
                    {
                        "rank": rank,
                        "token_id": (token + rank - 1) % 256,
                        "logprob": score - rank + 1,
                    }
                    for rank in range(1, wanted + 1)
                ]
                item |= {"log_probs": [score], "top_logprobs": [tops]}
                number += 1
            yield item


class FailingEngine:
    """Fails with the error of Muster's that the prompt names, after as many tokens as it says.

    A prompt is ``<error> <tokens before>``; its bytes are its tokens.
    """

    async def generate(
        self, request: EngineRequest | dict[str, Any], context: Context
    ) -> AsyncGenerator[Item, None]:
        """Say ``x`` some times, and fail."""
        text = bytes(token for token in read_request(request).token_ids if token < 256).decode()
        name, _, before = text.partition(" ")
        for _ in range(int(before)):
            yield {"token_ids": [ord("x")], "index": 0}
        raise _FAILURES[name](f"{name} as asked")


def write_parrot_model(directory: Path) -> Path:
    """Write a model whose prompt is the last message and nothing else: an echo gives it back."""
    directory.mkdir()
    write_tiny_model(directory)
    (directory / "chat_template.jinja").write_text("{{ messages[-1].content }}", "utf-8")
    return directory


class Running:
    """What ``deployed`` runs.

    Attributes:
        site: The frontend.
        runtime: The workers'.
    """

    def __init__(self, site: FleetSite, runtime: DistributedRuntime) -> None:
        self.site = site
        self.runtime = runtime

    def of(self, engine: str) -> Deployment:
        """The deployment as clients of the model of that name see it."""
        return Deployment(self.site.url, engine=engine, model=engine)

    @property
    def in_engines(self) -> float:
        """Requests the workers are at work on."""
        name = "dynamo_work_handler_pool_active_tasks"
        return self.runtime.metrics.get_sample_value(name) or 0.0


@contextlib.asynccontextmanager
async def deployed(root: Path, **options: Any) -> AsyncIterator[Running]:
    """A frontend and a worker with a model for each engine.

    ``mock`` (alias ``mock-alias``) and ``echo`` (alias ``echo-alias``, adapter ``echo-lora``, hermes
    and basic parsers), ``scored`` as echo with log probabilities, ``slow`` an echo at 20 tokens a
    second, ``failing``; ``vectors`` embeds. The chat prompts of all but ``mock`` are the last message alone.

    Args:
        root: An empty directory.
        options: As for ``muster.testing.fleet.frontend``.
    """
    (root / "tiny").mkdir()
    tiny = write_tiny_model(root / "tiny")
    parrot = write_parrot_model(root / "parrot")
    instant = MockSettings(timing=Timing(speedup_ratio=0))
    mock = await asyncio.to_thread(MockEngine, tiny / "tokenizer.json", instant)
    parsers = ModelRuntimeConfig(tool_call_parser="hermes", reasoning_parser="basic")
    registry = MemoryRegistry()
    async with worker(registry) as runtime, frontend(registry, root, **options) as site:
        await serve(
            runtime, tiny, "mock", "ns.mock.generate", engine=mock, model_aliases=["mock-alias"],
            runtime_config=parsers,
        )  # fmt: skip
        await serve(
            runtime, parrot, "echo", "ns.echo.generate", runtime_config=parsers,
            model_aliases=["echo-alias"],
        )  # fmt: skip
        await register_model(
            ModelInput.Tokens,
            SURFACES,
            runtime.endpoint("ns.echo.generate"),
            parrot,
            "echo",
            worker_type=WorkerType.Aggregated,
            runtime_config=parsers,
            lora_name="echo-lora",
            base_model_path=parrot,
        )
        slow = EchoEngine(EchoSettings(delay_s=0.05))
        for name, engine in (
            ("scored", ScoredEngine()),
            ("slow", slow),
            ("failing", FailingEngine()),
        ):
            await serve(runtime, parrot, name, f"ns.{name}.generate", engine=engine)
        embedder = MockEmbedder(MockEmbedderSettings(dimensions=64, timing=Timing(speedup_ratio=0)))
        at = runtime.endpoint("ns.embedder.generate")
        await runtime.serve(at.id(), EmbeddingHandler(embedder).generate)
        await register_model(
            ModelInput.Tokens,
            ModelType.Embedding,
            at,
            tiny,
            "vectors",
            worker_type=WorkerType.Aggregated,
        )
        names = ("echo", "echo-lora", "failing", "mock", "scored", "slow", "vectors")
        await site.listed(*names)
        yield Running(site, runtime)


class Background(Generic[T]):
    """What runs on another thread's loop.

    Attributes:
        value: What its context manager gave.
        loop: The loop it runs on.
    """

    def __init__(self, value: T, loop: asyncio.AbstractEventLoop) -> None:
        self.value = value
        self.loop = loop

    def call(self, work: Coroutine[Any, Any, Any], *, timeout_s: float = 30.0) -> Any:
        """The result of ``work`` on that loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_s)


@contextlib.contextmanager
def background(context: AbstractAsyncContextManager[T]) -> Iterator[Background[T]]:
    """Enter ``context`` on a thread of its own, and leave it at the end.

    Raises:
        Exception: Whatever entering or leaving it raises.
    """
    entered: concurrent.futures.Future[tuple[Background[T], asyncio.Event]]
    entered = concurrent.futures.Future()
    ended: concurrent.futures.Future[None] = concurrent.futures.Future()

    async def hold() -> None:
        leave = asyncio.Event()
        async with context as value:
            entered.set_result((Background(value, asyncio.get_running_loop()), leave))
            await leave.wait()

    def work() -> None:
        try:
            asyncio.run(hold())
        except BaseException as error:  # noqa: BLE001 - it is raised by the thread that waits
            (ended if entered.done() else entered).set_exception(error)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=work, name="deployment")
    thread.start()
    try:
        running, leave = entered.result(60)
        try:
            yield running
        finally:
            running.loop.call_soon_threadsafe(leave.set)
            ended.result(30)
    finally:
        thread.join(30)
