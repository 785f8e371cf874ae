"""Memory of frontend and worker: before any load, and after it.

A fresh pair of processes, each system with its own mock; then, one after the other, the unary and the
streamed load of ``chat_unary.py`` and ``chat_stream.py`` at 64 connections, and prompts of 10,000 tokens
at 16. ``rss`` and ``pss`` are resident memory in MB (2^20) with all descendants, two seconds after the
last request; of ``pss`` pages that processes share count in parts.

The peer's frontend is on jemalloc where the machine has it, as in all scripts. It is off unless asked
for; without it this load left the peer's frontend with 1.7 times the memory.

    python benchmarks/memory.py --peer DIR --shared ../shared [--rounds 5]
"""

from __future__ import annotations

import time

from chat_load import STREAM, UNARY, closed
from suite import Suite, arguments
from summary import Target
from systems import OWN, Endpoint, running, systems
from usage import memory_mb


def look(at: Endpoint) -> dict[str, float]:
    """Both processes now."""
    return {
        f"{role}_{key}_mb": value
        for role, of in (("frontend", at.frontend), ("worker", at.worker))
        for key, value in memory_mb(of).items()
    }


def main() -> None:
    suite = Suite("memory", arguments(__doc__))
    known = systems(suite.peer, suite.model)
    seconds = 2.0 if suite.short else 8.0
    for _ in suite.numbers(OWN):
        for who in suite.in_turn(OWN):
            with running(known[who], known[who]) as at:
                suite.add(who, look(at), "idle")
                for kind in (UNARY, STREAM):
                    closed(at, kind, connections=64, seconds=seconds)
                closed(at, UNARY, connections=16, seconds=seconds, prompt_tokens=10_000)
                time.sleep(2)
                suite.add(who, look(at), "loaded")
    keys = [
        f"loaded_{role}_{kind}_mb" for role in ("frontend", "worker") for kind in ("rss", "pss")
    ]
    suite.finish([Target(key, 0.6) for key in keys])


if __name__ == "__main__":
    main()
