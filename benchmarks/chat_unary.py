"""Chat, 16 tokens, unary, each system with its own mock: requests/s, latency, CPU.

Frontend, mock worker (that never waits) and load generator share the machine's cores. Closed loops by
wrk at 16 and 64 connections that are used again, and at 16 with a connection a request
(``fresh``); an open loop at a fixed rate, whose latencies count from when a request was due.
``frontend_cpu_us`` and ``worker_cpu_us`` are CPU time a request. ``ceilings`` are what the load
generators reach against a server that does nothing.

    python benchmarks/chat_unary.py --peer DIR --shared ../shared [--rounds 5]
"""

from __future__ import annotations

from chat_load import UNARY
from chat_rounds import chat_rounds
from suite import Suite, arguments
from summary import Target
from systems import OWN
from trivial_server import ceilings

TARGETS = [Target(f"unary_c{count}_per_s", 2.0, at_least=True) for count in (16, 64)]


def main() -> None:
    suite = Suite("chat_unary", arguments(__doc__))
    chat_rounds(suite, OWN, [UNARY], connections=(16, 64), fresh=True, at_own_times=True)
    suite.finish(TARGETS, about={"ceilings": ceilings(1 if suite.short else 4)})


if __name__ == "__main__":
    main()
