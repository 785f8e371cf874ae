"""Chat, 128 tokens, streamed, each system with its own mock: tokens/s, latency, CPU.

Frontend, mock worker (that never waits) and load generator share the machine's cores. Closed loops by
wrk at 16 and 64 connections that are used again, and at 16 with a connection a request
(``fresh``); an open loop at a fixed rate, whose latencies count from when a request was due.
``frontend_cpu_us`` and ``worker_cpu_us`` are CPU time a token. ``ceilings`` are what the load
generators reach against a server that does nothing.

At 16 connections used again the peer is limited by its listener, which leaves Nagle's algorithm on:
each stream waits 40 ms for a delayed acknowledgement, and part of the cores is idle. At 64 connections
the cores are busy all the same, and on a fresh connection nothing waits. ``muster_x2`` is Muster's
frontend with ``--processes 2``.

    python benchmarks/chat_stream.py --peer DIR --shared ../shared [--rounds 5]
"""

from __future__ import annotations

from chat_load import STREAM
from chat_rounds import chat_rounds
from suite import Suite, arguments
from summary import Target
from systems import OWN, OWN_X2
from trivial_server import ceilings

RATIOS = {"muster": "peer", "muster_x2": "peer"}
TARGETS = [
    *(Target(f"stream_c{count}_per_s", 2.5, at_least=True) for count in (16, 64)),
    Target("stream_c64_per_s", 2.5, at_least=True, pair="muster_x2_to_peer"),
]


def main() -> None:
    suite = Suite("chat_stream", arguments(__doc__))
    chat_rounds(
        suite,
        OWN,
        [STREAM],
        at_most=OWN_X2,
        connections=(16, 64),
        fresh=True,
        at_own_times=True,
    )
    suite.finish(TARGETS, ratios_to=RATIOS, about={"ceilings": ceilings(1 if suite.short else 4)})


if __name__ == "__main__":
    main()
