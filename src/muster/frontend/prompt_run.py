"""One prompt at an engine: its stream, and the answers that come out of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from muster.errors import MusterError
from muster.frontend.choice import Choice
from muster.frontend.engine_stream import ResponseStream
from muster.frontend.journey import Journey
from muster.frontend.served_model import ServedModel
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.runtime import Context

__all__ = ["PromptRun"]

_SETTLE_S = 1.0
"""How long an engine that has said it is finished may take to end its stream."""


class PromptRun:
    """Sends a request and hands what comes back to its choices.

    Args:
        request: The request.
        choices: Its answers, in the order of the engine's ``index``.

    Attributes:
        new_tokens: By how many tokens the answers grew in the last step.
        prompt_scores: What the engine said of the prompt's tokens, as it came: asked for, an engine
            of Dynamo's sends it as ``engine_data``, usually with its last output. ``None`` until
            then.
    """

    __slots__ = (
        "_open",
        "_single",
        "_stream",
        "_stream_ended",
        "choices",
        "new_tokens",
        "prompt_scores",
        "request",
    )

    def __init__(self, request: EngineRequest, choices: Sequence[Choice]) -> None:
        self.request = request
        self.choices = choices
        self.new_tokens = 0
        self.prompt_scores: Any = None
        self._open = len(choices)
        # Asked for more candidates than answers, an engine may send the others, too.
        candidates = request.sampling_options.best_of or 1
        self._single = len(choices) == 1 and candidates == 1 and not self._wants_prompt_scores
        self._stream: ResponseStream[EngineOutput] | None = None
        self._stream_ended = False

    @property
    def finished(self) -> bool:
        """Whether every answer has ended."""
        return not self._open

    @property
    def journey(self) -> Journey | None:
        """The instances it went to; ``None`` before it has been sent."""
        return None if self._stream is None else self._stream.journey

    async def start(self, model: ServedModel, context: Context) -> None:
        """Send the request; runs that go on at a time need contexts of their own.

        Raises:
            MusterError: If it cannot be sent.
        """
        self._stream = await model.generate(self.request, context=context)

    async def read(self, changed: Callable[[Sequence[Choice]], bool]) -> None:
        """Read until every answer has ended, or ``changed`` has had enough for now.

        Once the frontend has ended every answer before the engine did, the engine is stopped.

        Args:
            changed: Called after each step with the choices that outputs went to; says whether to
                go on. Must not wait. What it raises is raised here.

        Raises:
            MusterError: What ended the stream, or what the engine reports.
        """
        if self._stream is None:
            raise RuntimeError("the run has not been started")
        failure: Exception | None = None

        def take(outputs: Sequence[EngineOutput]) -> bool:
            nonlocal failure
            try:
                return changed(self._note_ends(self._take(outputs))) and bool(self._open)
            except Exception as error:  # noqa: BLE001 - raised below: it is none of the stream's
                failure = error
                return False

        if not await self._stream.read(take):
            changed(self._note_ends(self._end()))
        if failure is not None:
            raise failure

    def _note_ends(self, changed: Sequence[Choice]) -> Sequence[Choice]:
        if changed[-1].finish_reason is not None or len(changed) > 1:
            self._open = sum([choice.finish_reason is None for choice in self.choices])
            if not self._open and not all(choice.ended_by_engine for choice in self.choices):
                self.close()
        return changed

    def close(self) -> None:
        """Drop the stream unless it has ended; idempotent."""
        if self._stream is not None and not self._stream_ended:
            self._stream_ended = True
            self._stream.kill()

    async def settle(self) -> None:
        """Read the end of a stream whose answers are all there, or drop it if none comes."""
        if self._stream is None or self._stream_ended:
            return
        # A timer that kills is a fifth of the cost of ``asyncio.timeout``.
        timer = asyncio.get_running_loop().call_later(_SETTLE_S, self.close)
        # The answers are complete: how the stream ends after them is of no use to anyone.
        with contextlib.suppress(MusterError):
            while await self._stream.batch():
                pass
            self._stream_ended = True
        timer.cancel()

    def _take(self, outputs: Sequence[EngineOutput]) -> Sequence[Choice]:
        choices = self.choices
        if self._single:
            self.new_tokens = choices[0].feed(outputs)
            return choices
        if self._wants_prompt_scores:
            self._keep_prompt_scores(outputs)
        grouped: dict[int, list[EngineOutput]] = {}
        for output in outputs:
            grouped.setdefault(output.index or 0, []).append(output)
        changed = []
        self.new_tokens = 0
        for index, own in grouped.items():
            if index < len(choices):
                self.new_tokens += choices[index].feed(own)
                changed.append(choices[index])
        return changed or choices[:1]

    @property
    def _wants_prompt_scores(self) -> bool:
        return self.request.output_options.prompt_logprobs is not None

    def _keep_prompt_scores(self, outputs: Sequence[EngineOutput]) -> None:
        for output in outputs:
            data = output.engine_data
            if isinstance(data, dict) and data.get("prompt_logprobs") is not None:
                self.prompt_scores = data["prompt_logprobs"]

    def _end(self) -> Sequence[Choice]:
        self._stream_ended = True
        self.new_tokens = 0
        for choice in self.choices:
            choice.end()
        return self.choices
