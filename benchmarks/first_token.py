"""Time to the first token with an engine that takes 3 ms, on a connection used again and a fresh one.

Each system with its own mock, both at the same speed: a prompt of 26 tokens takes 3 ms, each further
token 1 ms. Requests go one after the other, streamed, 32 tokens each; the time is from writing the
request (for a fresh connection: from connecting) to the first event with text. ``whole`` is the
time to the end of the stream.

The peer's listener leaves Nagle's algorithm on: on a connection used again the first data of a
stream waits for the client's delayed acknowledgement, 40 ms. On a fresh one it does not, and there
(``fresh``) the two are nearly equal. Connections used again are what clients' pools do.

    python benchmarks/first_token.py --peer DIR --shared ../shared [--rounds 5] [--requests 200]
"""

from __future__ import annotations

import statistics

import uvloop
from client import one_by_one, p99, request_of
from suite import Suite, arguments
from summary import Target
from systems import OWN, all_running, systems
from wrk import chat_body

SPEED = 5.6  # 16.9 ms by the mocks' formula, divided by this, are 3 ms
TOKENS = 32
WARM_UP = 20


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--requests", type=int, help="of each kind in each round")
    suite = Suite("first_token", parser)
    known = systems(suite.peer, suite.model, speed=SPEED)
    count = suite.options.requests or (50 if suite.short else 200)
    for _ in suite.numbers(OWN):
        with all_running(known, OWN) as running:
            for label, fresh in (("reused", False), ("fresh", True)):
                request = request_of(chat_body(TOKENS, stream=True), fresh=fresh)
                for who, at in suite.in_turn(running.items()):
                    replies = uvloop.run(
                        one_by_one(at.port, [request] * (WARM_UP + count), fresh=fresh)
                    )[WARM_UP:]
                    first = [reply.first_s * 1e3 for reply in replies]
                    figures = {
                        "p50_ms": statistics.median(first),
                        "p99_ms": p99(first),
                        "whole_p50_ms": statistics.median(r.whole_s * 1e3 for r in replies),
                    }
                    suite.add(who, figures, label)
    suite.finish([Target("reused_p50_ms", 0.2)])


if __name__ == "__main__":
    main()
