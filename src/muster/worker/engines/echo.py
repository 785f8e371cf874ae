"""The echo: every prompt comes back token by token. For trying out a chain with known output."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from muster.errors import ConfigError, InvalidArgument
from muster.llm.protocol import EngineRequest
from muster.wire.context import Context
from muster.worker.engines.request import Item, choice_count, read_request
from muster.worker.engines.timing import Pacer

__all__ = ["EchoEngine", "EchoSettings"]


class EchoSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to echo.

    Attributes:
        chunk: Tokens an item.
        delay_s: Seconds a token takes; 0 for no waiting.

    Raises:
        ConfigError: If ``chunk`` is below 1 or ``delay_s`` is negative.
    """

    chunk: int = 1
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ConfigError(f"chunk is {self.chunk}: it must be at least 1")
        if not self.delay_s >= 0:
            raise ConfigError(f"delay_s is {self.delay_s}: it must be 0 or more")


class EchoEngine:
    """Answers each request with its own prompt."""

    def __init__(self, settings: EchoSettings | None = None) -> None:
        self._settings = settings or EchoSettings()

    async def generate(
        self, request: EngineRequest | dict[str, Any], context: Context
    ) -> AsyncGenerator[Item, None]:
        """Give back the prompt, up to ``max_tokens``; ``stop`` if it is whole, else ``length``.

        All ``n`` choices are the same. Stops of the request are not looked at: the frontend knows
        them.

        Raises:
            InvalidArgument: If the request is malformed, asks for less than one token, or for less
                than one choice or more than 128.
        """
        typed = read_request(request)
        tokens, reason = _reply(typed)
        choices = range(choice_count(typed))
        chunk, delay_s = self._settings.chunk, self._settings.delay_s
        pacer = Pacer(context)
        for start in range(0, max(len(tokens), 1), chunk):
            piece = tokens[start : start + chunk]
            if not await pacer.wait(delay_s * len(piece)):
                yield {"token_ids": [], "index": 0, "finish_reason": "cancelled"}
                return
            for index in choices:
                item: Item = {"token_ids": piece, "index": index}
                if start + chunk >= len(tokens):
                    item["finish_reason"] = reason
                yield item


def _reply(request: EngineRequest) -> tuple[list[int], str]:
    tokens, limit = request.token_ids, request.stop_conditions.max_tokens
    if limit is None or limit >= len(tokens) > 0:
        return tokens, "stop"
    if limit < 1:
        raise InvalidArgument(f"Max tokens must be greater than 0, got {limit}")
    return tokens[:limit], "length" if tokens else "stop"
