"""Chat under load, for the scripts about it: closed loop by wrk, open loop by the suite's client."""

from __future__ import annotations

from typing import NamedTuple

import uvloop
from client import open_loop, p99, request_of
from systems import Endpoint
from usage import cpu_seconds
from wrk import chat_body, prompt_of, wrk

__all__ = ["STREAM", "UNARY", "Kind", "closed", "opened"]


class Kind(NamedTuple):
    """A kind of request: its name, the length of its reply, and what its rate counts."""

    name: str
    tokens: int
    stream: bool

    @property
    def unit(self) -> int:
        """What one request counts for: its tokens if they are streamed."""
        return self.tokens if self.stream else 1


UNARY = Kind("unary", 16, stream=False)
STREAM = Kind("stream", 128, stream=True)


def closed(
    at: Endpoint,
    kind: Kind,
    *,
    connections: int,
    seconds: float,
    fresh: bool = False,
    prompt_tokens: int = 0,
) -> dict[str, float]:
    """One closed-loop load after a second of warm-up.

    Args:
        at: What is asked.
        kind: Of the requests.
        connections: How many.
        seconds: How long.
        fresh: A connection a request.
        prompt_tokens: Length of prompts no two of which are alike; 0 for one short prompt.

    Returns:
        ``per_s`` (requests, or streamed tokens), ``p50_ms`` and ``p99_ms`` of whole requests, CPU
        time in microseconds of the frontend and of the worker a request or streamed token, and what
        wrk itself used.
    """

    def run(length: float) -> tuple[float, float, float, float, float]:
        return wrk(
            at.port,
            connections=connections,
            seconds=length,
            max_tokens=kind.tokens,
            stream=kind.stream,
            fresh=fresh,
            prompt=prompt_of(prompt_tokens),
            distinct=prompt_tokens > 0,
        )

    run(1)
    before = cpu_seconds(at.frontend), cpu_seconds(at.worker)
    rate, p50_ms, p99_ms, took, client = run(seconds)
    done = rate * took * kind.unit
    return {
        "per_s": rate * kind.unit,
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "frontend_cpu_us": (cpu_seconds(at.frontend) - before[0]) / done * 1e6,
        "worker_cpu_us": (cpu_seconds(at.worker) - before[1]) / done * 1e6,
        "client_cores": client,
    }


def opened(
    at: Endpoint, kind: Kind, *, rate: float, seconds: float, fresh: bool = False
) -> dict[str, float]:
    """One open-loop load: ``rate`` requests a second, times from when each was due.

    ``late_p99_ms`` is how late the client was with writing them, which is part of the others.
    """
    request = request_of(chat_body(kind.tokens, stream=kind.stream), fresh=fresh)
    got = uvloop.run(open_loop(at.port, lambda _: request, rate=rate, seconds=seconds, fresh=fresh))
    found = {
        "p50_ms": sorted(got.whole_s)[len(got.whole_s) // 2] * 1e3,
        "p99_ms": p99(got.whole_s) * 1e3,
        "late_p99_ms": p99(got.late_s) * 1e3,
        "client_cores": got.client_cores,
    }
    if kind.stream:
        found["first_p50_ms"] = sorted(got.first_s)[len(got.first_s) // 2] * 1e3
        found["first_p99_ms"] = p99(got.first_s) * 1e3
    return found
