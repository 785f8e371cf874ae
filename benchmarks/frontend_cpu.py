"""CPU time of the frontend: a chat request, a streamed token, and a token of a paced engine.

``request_us``: 16 tokens unary, and ``token_us``: 128 streamed, from a mock that never waits, 16
connections, each system with its own mock. There tokens come faster than they can be written, and
several share a write. ``paced_token_us``: 256 streams at once of an engine that takes about 10 ms a
token, each token on its own. That is measured with each system's own mock (both step all requests
together, as engines with continuous batching do) and, as ``..._same_mock``, with Muster's behind both
frontends. Requests of paced streams count as part of their tokens.

``paced_tokens_s`` should be the same for both (25,600 at 10 ms): a frontend that cannot keep up shows
there.

    python benchmarks/frontend_cpu.py --peer DIR --shared ../shared [--rounds 5] [--streams 256]
"""

from __future__ import annotations

import asyncio
import time

import uvloop
from chat_load import STREAM, UNARY, closed
from client import Streams, request_of
from suite import Suite, arguments
from summary import Target
from systems import OWN, Endpoint, all_running, running, systems
from usage import cpu_seconds
from wrk import chat_body

SPEED = 0.75  # 5.74 ms a token, more as the cache fills, divided by this
TOKENS = 128


async def paced(at: Endpoint, streams: int, seconds: float) -> dict[str, float]:
    """Figures of a window, once all streams have been under way for a while."""
    request = request_of(chat_body(TOKENS, stream=True))
    async with Streams(at.port, request, streams) as load:
        await asyncio.sleep(3)
        events, cpu, own = load.events(), cpu_seconds(at.frontend), time.process_time()
        began = time.perf_counter()
        await asyncio.sleep(seconds)
        took = time.perf_counter() - began
        tokens = load.events() - events
        return {
            "token_us": (cpu_seconds(at.frontend) - cpu) / tokens * 1e6,
            "tokens_s": tokens / took,
            "client_cores": (time.process_time() - own) / took,
        }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--streams", type=int, default=256)
    suite = Suite("frontend_cpu", parser)
    streams = suite.options.streams
    fast = systems(suite.peer, suite.model)
    slow = systems(suite.peer, suite.model, speed=SPEED, roomy=False)
    seconds = 3.0 if suite.short else 10.0
    for _ in suite.numbers(OWN):
        with all_running(fast, OWN) as at_once:
            for kind, key in ((UNARY, "request_us"), (STREAM, "token_us")):
                for who, at in suite.in_turn(at_once.items()):
                    load = closed(at, kind, connections=16, seconds=min(5.0, seconds))
                    suite.add(who, {key: load["frontend_cpu_us"]})
        for label, same in (("paced", False), ("paced_same_mock", True)):
            for who in suite.in_turn(OWN):
                worker = slow["muster" if same else who]
                with running(slow[who], worker) as at:
                    suite.add(who, uvloop.run(paced(at, streams, seconds)), label)
    keys = ("request_us", "token_us", "paced_token_us", "paced_same_mock_token_us")
    suite.finish([Target(key, 0.6) for key in keys])


if __name__ == "__main__":
    main()
