"""Prompts of 60,000 tokens, 8 in flight, and short requests beside them.

Each system with its own mock that never waits. ``long_per_s``: long requests a second, closed loop,
16 tokens each, no two user's texts alike from the first word on. Meanwhile short requests (26 tokens, 16
back, unary) come at 20 a second at times of their own; ``short_p50_ms`` and ``short_p99_ms`` count
from when each was due. ``quiet_...`` is the same without the long ones. ``shared_long_per_s`` has
the 60,000 tokens in a system message that all requests share: what systems remember counts there.

    python benchmarks/long_prompts.py --peer DIR --shared ../shared [--rounds 5] [--tokens 60000]
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Coroutine
from typing import Any

import uvloop
from client import OpenLoop, lanes, open_loop, p99, request_of
from suite import Suite, arguments
from summary import Target
from systems import OWN, Endpoint, all_running, systems
from wrk import chat_body, prompt_of

RATE = 20.0
AT_ONCE = 8
CONTEXT = 131_072
WARM_UP_S = 1.0


async def measure(at: Endpoint, tokens: int, seconds: float) -> dict[str, float]:
    """One round of one system: short requests alone, then beside long ones."""
    short, prompt = request_of(chat_body(16, stream=False)), prompt_of(tokens)

    def long(number: int) -> bytes:
        return request_of(chat_body(16, stream=False, prompt=prompt, number=str(number)))

    def shared(number: int) -> bytes:
        return request_of(chat_body(16, stream=False, system=prompt, number=str(number)))

    def shorts(length: float) -> Coroutine[Any, Any, OpenLoop]:
        return open_loop(at.port, lambda _: short, rate=RATE, seconds=length)

    await lanes(at.port, lambda number: long(-number - 1), at_once=2, seconds=WARM_UP_S)
    quiet = await shorts(min(seconds, 5.0))
    async with asyncio.TaskGroup() as group:
        beside = group.create_task(shorts(seconds))
        replies, took = await lanes(at.port, long, at_once=AT_ONCE, seconds=seconds)
    busy = beside.result()
    remembered, shared_took = await lanes(at.port, shared, at_once=AT_ONCE, seconds=seconds / 4)
    return {
        "long_per_s": len(replies) / took,
        "long_p50_ms": statistics.median(reply.whole_s for reply in replies) * 1e3,
        "short_p50_ms": statistics.median(busy.whole_s) * 1e3,
        "short_p99_ms": p99(busy.whole_s) * 1e3,
        "short_late_p99_ms": p99(busy.late_s) * 1e3,
        "quiet_short_p50_ms": statistics.median(quiet.whole_s) * 1e3,
        "quiet_short_p99_ms": p99(quiet.whole_s) * 1e3,
        "shared_long_per_s": len(remembered) / shared_took,
        "client_cores": busy.client_cores,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tokens", type=int, default=60_000)
    suite = Suite("long_prompts", parser)
    known = systems(suite.peer, suite.model, max_model_len=CONTEXT)
    seconds = 5.0 if suite.short else 20.0
    for _ in suite.numbers(OWN):
        with all_running(known, OWN) as running:
            for who, at in suite.in_turn(running.items()):
                suite.add(who, uvloop.run(measure(at, suite.options.tokens, seconds)))
    suite.finish([Target("long_per_s", 1.0, at_least=True), Target("short_p99_ms", 0.3)])


if __name__ == "__main__":
    main()
