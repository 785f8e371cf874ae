"""Chat, 16 tokens, unary, each system with its own mock: requests/s, latency, CPU.

Frontend, mock worker (that never waits) and load generator share the machine's cores. Closed loops by
wrk at 16 and 64 connections that are used again, and at 16 with a connection a request
(``fresh``); an open loop at a fixed rate, whose latencies count from when a request was due.
``frontend_cpu_us`` and ``worker_cpu_us`` are CPU time a request. ``ceilings`` are what the load
generators reach against a server that does nothing. ``muster_x2`` is Muster's frontend with
``--processes 2``, under the load of 64 connections: a single process uses one core and a little of
another, while the peer's frontend has a thread for each core.

    python benchmarks/chat_unary.py --peer DIR --shared ../shared [--rounds 5]
"""

from __future__ import annotations

from chat_load import UNARY
from chat_rounds import chat_rounds
from suite import Suite, arguments
from summary import Target
from systems import OWN, OWN_X2
from trivial_server import ceilings

RATIOS = {"muster": "peer", "muster_x2": "peer"}
TARGETS = [
    *(Target(f"unary_c{count}_per_s", 2.0, at_least=True) for count in (16, 64)),
    Target("unary_c64_per_s", 2.0, at_least=True, pair="muster_x2_to_peer"),
]


def main() -> None:
    suite = Suite("chat_unary", arguments(__doc__))
    chat_rounds(
        suite,
        OWN,
        [UNARY],
        at_most=OWN_X2,
        connections=(16, 64),
        fresh=True,
        at_own_times=True,
    )
    suite.finish(TARGETS, ratios_to=RATIOS, about={"ceilings": ceilings(1 if suite.short else 4)})


if __name__ == "__main__":
    main()
