"""Engines that do what a test says, in its own process: no worker, no network."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from muster.errors import MusterError
from muster.frontend.journey import Journey
from muster.frontend.served_model import ServedModel
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.runtime import Context

__all__ = ["Script", "ScriptedModel", "ScriptedStream", "outputs"]


class ScriptedStream:
    """A response stream that its test fills. Each ``push`` is one batch."""

    def __init__(self) -> None:
        self._batches: deque[Sequence[EngineOutput]] = deque()
        self._error: MusterError | None = None
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self.killed = asyncio.Event()
        self.journey = Journey()

    def push(self, *items: EngineOutput) -> ScriptedStream:
        """Let ``items`` arrive together."""
        self._batches.append(items)
        self._wake()
        return self

    def end(self) -> ScriptedStream:
        """End cleanly after what has been pushed."""
        self._ended = True
        self._wake()
        return self

    def fail(self, error: MusterError) -> ScriptedStream:
        """Fail after what has been pushed."""
        self._error = error
        return self.end()

    async def batch(self) -> Sequence[EngineOutput]:
        """The next push; empty at the end."""
        while not self._batches:
            if self._error is not None:
                raise self._error
            if self._ended:
                return ()
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._batches.popleft()

    async def read(self, take: Callable[[Sequence[EngineOutput]], bool]) -> bool:
        """Hand over one push after the other."""
        while items := await self.batch():
            if not take(items):
                return True
        return False

    def kill(self) -> None:
        """Note that the frontend dropped the response, unless it had ended."""
        if self._ended and not self._batches:
            return
        self.killed.set()
        self._batches.clear()
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


Script = Callable[[EngineRequest], ScriptedStream]
"""Makes the response to a request, or raises the ``MusterError`` that sending it would."""


def outputs(
    token_ids: Sequence[int], finish_reason: str | None = None, *, index: int = 0
) -> list[EngineOutput]:
    """One output a token, the last with ``finish_reason``."""
    items = [EngineOutput(token_ids=[token_id], index=index) for token_id in token_ids]
    if finish_reason is not None:
        if not items:
            items.append(EngineOutput(index=index))
        items[-1].finish_reason = finish_reason
    return items


class ScriptedModel:
    """A model whose engine is a script. ``served`` goes into a model table.

    Args:
        directory: Model directory to take tokenizer and template from.
        name: Its name.
        script: Answers requests; by default every stream stays empty until a test, which gets it
            from ``next_stream``, fills it.
        context_length: As in ``ServedModel``.
        aliases: As in ``ServedModel``.

    Attributes:
        requests: All requests its engine got.
        contexts: What came with them: ids, traces.
    """

    def __init__(
        self,
        directory: Path,
        name: str = "tiny",
        *,
        script: Script | None = None,
        context_length: int = 2048,
        aliases: tuple[str, ...] = (),
    ) -> None:
        self._script = script
        self._streams: asyncio.Queue[ScriptedStream] = asyncio.Queue()
        self.requests: list[EngineRequest] = []
        self.contexts: list[Context] = []
        files = ModelFiles.of_directory(directory)
        self.served = ServedModel(
            name=name,
            created=1_700_000_000,
            preprocessor=Preprocessor.load(files, context_length=context_length),
            generate=self._generate,
            context_length=context_length,
            aliases=aliases,
        )

    @property
    def request_ids(self) -> list[str]:
        """The ids of all requests its engine got."""
        return [context.id() for context in self.contexts]

    async def _generate(self, request: EngineRequest, *, context: Context) -> ScriptedStream:
        self.requests.append(request)
        self.contexts.append(context)
        stream = self._script(request) if self._script is not None else ScriptedStream()
        self._streams.put_nowait(stream)
        return stream

    async def next_stream(self) -> ScriptedStream:
        """The stream of the next request whose stream has not been given out."""
        return await self._streams.get()
