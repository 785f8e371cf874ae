"""The mock: replies that look like text, at a chosen speed, without a model.

Words of the model's own vocabulary follow one another in an order that the prompt decides, up to
``max_tokens`` or a stop of the request's; the mock never ends a reply on its own. With no waiting
asked for, a token costs about a microsecond: it is what the rest of the system is measured with.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from muster.errors import InvalidArgument
from muster.llm.detokenizer import Detokenizer
from muster.llm.protocol import EngineRequest
from muster.llm.stops import StopChecker, StopRules
from muster.wire.context import Context
from muster.worker.engines.request import Item, choice_count, read_request
from muster.worker.engines.timing import Pacer, StepClock, Timing
from muster.worker.engines.vocabulary import Vocabulary
from muster.worker.engines.words import read_words

__all__ = ["MockEngine", "MockSettings"]

_YIELD_EVERY = 32
_WORDS_WITHOUT_TOKENIZER = range(1000, 2000)  # those of Dynamo's mocker

Step = tuple[Item, ...]
"""What one decode step gives: an item for each choice that still goes on."""


class MockSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated.

    Attributes:
        timing: How fast.
        context_length: Tokens a prompt and its reply may have together; ``None`` for no limit.
        default_max_tokens: Length of a reply to a request that names none.
        total_kv_tokens: Size of the simulated key-value cache; a full one decodes slower. The
            default is that of Dynamo's mocker: 16384 blocks of 64.
    """

    timing: Timing = Timing()
    context_length: int | None = None
    default_max_tokens: int = 512
    total_kv_tokens: int = 16384 * 64


class MockEngine:
    """Answers requests with pseudo-random words.

    Making one reads the tokenizer and picks the words: do it in a thread. From then on it belongs
    to one event loop.

    Args:
        tokenizer_path: The model's tokenizer.json. Without one the ids are 1000 to 1999, whatever
            they mean, and stop strings are left to the frontend.
        settings: What to simulate.

    Raises:
        CardError: If the tokenizer cannot be read or has no printable token.
    """

    def __init__(self, tokenizer_path: Path | None, settings: MockSettings | None = None) -> None:
        self._settings = settings or MockSettings()
        self._words = read_words(tokenizer_path) if tokenizer_path else None
        self._vocabulary = Vocabulary(self._words.ids if self._words else _WORDS_WITHOUT_TOKENIZER)
        self._active_tokens = 0
        self._clock = StepClock()

    @property
    def active_tokens(self) -> int:
        """Tokens in the simulated key-value cache now; always 0 where nothing is waited for."""
        return self._active_tokens

    async def generate(
        self, request: EngineRequest | dict[str, Any], context: Context
    ) -> AsyncGenerator[Item, None]:
        """Answer one request; an item a token and choice.

        Raises:
            InvalidArgument: If the request is malformed or its prompt fills the context.
        """
        typed = read_request(request)
        steps = self._steps(typed)
        if not self._settings.timing.is_instant:
            async with contextlib.aclosing(self._paced(typed, steps, context)) as paced:
                async for item in paced:
                    yield item
            return
        for count, step in enumerate(steps, 1):
            if context.is_stopped():
                yield _cancelled()
                return
            for item in step:
                yield item
            if not count % _YIELD_EVERY:
                await asyncio.sleep(0)

    async def _paced(
        self, request: EngineRequest, steps: Iterator[Step], context: Context
    ) -> AsyncGenerator[Item, None]:
        """The items of ``steps``, each step at its time."""
        timing, total = self._settings.timing, self._settings.total_kv_tokens
        pacer = Pacer(context)
        held = len(request.token_ids)
        self._active_tokens += held
        due = pacer.wait(timing.prefill_s(held))
        try:
            for step in steps:
                if not await due:
                    yield _cancelled()
                    return
                held += len(step)
                self._active_tokens += len(step)
                for item in step:
                    yield item
                due = pacer.step(self._clock, timing.step_s(self._active_tokens / total))
        finally:
            due.close()
            self._active_tokens -= held

    def _steps(self, request: EngineRequest) -> Iterator[Step]:
        rules = StopRules.of(request.stop_conditions, eos_token_ids=request.eos_token_ids)
        limit = min(rules.max_tokens, self._room(request))
        rules = msgspec.structs.replace(rules, max_tokens=limit)
        choices = [self._choice(request, rules, index) for index in range(choice_count(request))]
        return zip(choices[0]) if len(choices) == 1 else _interleave(choices)

    def _room(self, request: EngineRequest) -> int:
        """Tokens the reply may have, by the context and, for want of max_tokens, by default."""
        settings, prompt = self._settings, len(request.token_ids)
        room = settings.default_max_tokens
        if request.stop_conditions.max_tokens is not None:
            room = request.stop_conditions.max_tokens
        if settings.context_length is None:
            return room
        if prompt >= settings.context_length:
            raise InvalidArgument(
                f"the prompt has {prompt} tokens and leaves no room for a reply: "
                f"the context length is {settings.context_length}"
            )
        return min(room, settings.context_length - prompt)

    def _choice(self, request: EngineRequest, rules: StopRules, index: int) -> Iterator[Item]:
        """The items of one choice. Decodes only where a stop could be among the words."""
        vocabulary, never = self._vocabulary, request.eos_token_ids
        start = vocabulary.start_of(request.token_ids, request.sampling_options.seed, index)
        tokens = vocabulary.draw(start, rules.max_tokens, never=never)
        stop_ids = (rules.visible_ids | rules.hidden_ids).difference(never)
        if rules.strings is None and vocabulary.words.isdisjoint(stop_ids):
            return _plain_items(tokens, rules.max_tokens, index)
        return _checked_items(tokens, StopChecker(rules, self._new_detokenizer()), index)

    def _new_detokenizer(self) -> Detokenizer:
        return self._words.new_detokenizer() if self._words else _NoText()


class _NoText:
    """Decodes to nothing, for want of a tokenizer; ids are all that is compared."""

    def push(self, token_ids: Sequence[int]) -> str:
        return ""

    def flush(self) -> str:
        return ""


def _plain_items(tokens: Iterator[int], limit: int, index: int) -> Iterator[Item]:
    for token in islice(tokens, limit - 1):
        yield {"token_ids": [token], "index": index}
    yield {"token_ids": [next(tokens)], "index": index, "finish_reason": "length"}


def _checked_items(tokens: Iterator[int], checker: StopChecker, index: int) -> Iterator[Item]:
    for token in tokens:
        reason = checker.push((token,)).finish_reason
        if reason is not None:
            yield {"token_ids": [token], "index": index, "finish_reason": reason}
            return
        yield {"token_ids": [token], "index": index}


def _interleave(choices: list[Iterator[Item]]) -> Iterator[Step]:
    while step := tuple(item for choice in choices if (item := next(choice, None)) is not None):
        yield step


def _cancelled() -> Item:
    return {"token_ids": [], "index": 0, "finish_reason": "cancelled"}
