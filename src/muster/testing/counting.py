"""An engine whose next token follows from how long the sequence is: any part of it is known.

Continued at another instance with the tokens so far it gives what it would have given, so a test
can compare an interrupted answer with a whole one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from muster.llm.protocol import EngineRequest, as_request
from muster.wire.context import Context

__all__ = ["CountingEngine", "letters"]

_FIRST, _LETTERS = ord("a"), 26


def letters(start: int, count: int) -> str:
    """What the engine says from position ``start`` of a sequence on, with the tiny model's bytes."""
    return "".join(chr(_FIRST + at % _LETTERS) for at in range(start, start + count))


class CountingEngine:
    """Letters in order, one a token; ``length`` after ``max_tokens`` (default 16).

    Args:
        delay_s: Seconds a token takes.
        burst: Tokens an item.

    Attributes:
        requests: All requests it got.
        running: How many it works on.
    """

    def __init__(self, *, delay_s: float = 0.0, burst: int = 1) -> None:
        self._delay_s = delay_s
        self._burst = burst
        self.requests: list[EngineRequest] = []
        self.running = 0

    async def generate(
        self, request: EngineRequest | dict[str, Any], context: Context
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Answer one request; log probabilities are minus the position, usage is its own count."""
        typed = request if isinstance(request, EngineRequest) else as_request(request)
        self.requests.append(typed)
        self.running += 1
        try:
            start, total = len(typed.token_ids), typed.stop_conditions.max_tokens or 16
            for done in range(0, total, self._burst):
                await asyncio.sleep(self._delay_s)
                if context.is_stopped():
                    yield {"token_ids": [], "index": 0, "finish_reason": "cancelled"}
                    return
                yield self._item(typed, start, done, total)
        finally:
            self.running -= 1

    def _item(self, request: EngineRequest, start: int, done: int, total: int) -> dict[str, Any]:
        count = min(self._burst, total - done)
        text = letters(start + done, count)
        item: dict[str, Any] = {"token_ids": [ord(each) for each in text], "index": 0}
        if request.output_options.logprobs is not None:
            item["log_probs"] = [-float(start + done + k) for k in range(count)]
        if done + count == total:
            item["finish_reason"] = "length"
            item["completion_usage"] = {
                "prompt_tokens": start,
                "completion_tokens": total,
                "total_tokens": start + total,
                "prompt_tokens_details": {"cached_tokens": start // 16 * 16},
            }
        return item
