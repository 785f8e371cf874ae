"""Closed-loop load from wrk: so many connections, each with one request at a time."""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Result", "chat_body", "prompt_of", "wrk"]

_SYSTEM = "You are a helpful assistant."
_PROMPT = "Write a short poem about distributed systems and the sea, with care for the reader."
_FILLER = (
    "The harbour keeps a ledger of the ships that come and go, and nobody has read it twice. "
    "A clock that was wound in spring is late by autumn; two clocks are never late alike. "
)
_SCRIPT = """wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
%(headers)s
local first, last, number = [==[%(first)s]==], [==[%(last)s]==], 0
if %(distinct)s then
  request = function()
    number = number + 1
    return wrk.format(nil, nil, nil, first .. number .. last)
  end
else
  wrk.body = first .. last
end
done = function(summary, latency, requests)
  local bad = summary.errors
  io.write(string.format("REPORT %%d %%d %%d %%g %%g %%g\\n", summary.requests, summary.duration,
    bad.connect + bad.read + bad.write + bad.status + bad.timeout,
    latency:percentile(50), latency:percentile(99), summary.bytes))
end
"""
_FILLER_TOKENS = 39.0
_NUMBER = "@@number@@"


class Result(NamedTuple):
    """One run.

    Attributes:
        requests_s: Requests a second.
        p50_ms: Median time of a whole request.
        p99_ms: Its 99th percentile.
        seconds: How long it ran.
        client_cores: CPU time of wrk itself, a second: near 1 it would be the limit.
    """

    requests_s: float
    p50_ms: float
    p99_ms: float
    seconds: float
    client_cores: float


def prompt_of(tokens: int) -> str:
    """A user's text that makes a prompt of about that many tokens of the suite's model.

    The shortest, also for 0, makes one of 26.
    """
    more = max(0, tokens - 26) / _FILLER_TOKENS
    return (
        _PROMPT + " " + _FILLER * int(more) + _FILLER[: int((more % 1) * len(_FILLER))]
    ).rstrip()


def chat_body(
    max_tokens: int,
    *,
    stream: bool,
    prompt: str = _PROMPT,
    number: str = "",
    system: str = _SYSTEM,
) -> str:
    """The JSON of a chat request; ``number`` goes before the user's text."""
    body: dict[str, Any] = {
        "model": "bench",
        "messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": f"{number} {prompt}" if number else prompt},
        ],
        "max_tokens": max_tokens,
        "ignore_eos": True,
    }
    if stream:
        body["stream"] = True
    return json.dumps(body, separators=(",", ":"))


def wrk(
    port: int,
    *,
    connections: int,
    seconds: float,
    max_tokens: int,
    stream: bool,
    prompt: str = _PROMPT,
    distinct: bool = False,
    fresh: bool = False,
) -> Result:
    """Run it.

    Args:
        port: Of the frontend, on loopback.
        connections: How many.
        seconds: How long.
        max_tokens: Of each reply.
        stream: Whether replies are streamed.
        prompt: The user's text.
        distinct: Whether no two of the user's texts are alike, from their first word on.
        fresh: A connection a request, instead of connections that are used again.

    Raises:
        RuntimeError: A request failed.
    """
    number = _NUMBER if distinct else ""
    body = chat_body(max_tokens, stream=stream, prompt=prompt, number=number)
    first, _, last = body.partition(_NUMBER) if distinct else (body, "", "")
    text = _SCRIPT % {
        "headers": 'wrk.headers["Connection"] = "close"' if fresh else "",
        "first": first,
        "last": last,
        "distinct": "true" if distinct else "false",
    }
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch) / "load.lua"
        script.write_text(text)
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        whole = max(1, round(seconds))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}", "--timeout", "30s"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [*command, "-s", str(script), url], check=False, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = next((each for each in done.stdout.splitlines() if each.startswith("REPORT ")), "")
    words = line.split()
    if not words or int(words[3]) or not int(words[1]):
        raise RuntimeError(f"requests failed, or none was answered: {done.stdout}{done.stderr}")
    took = int(words[2]) / 1e6
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Result(
        int(words[1]) / took, float(words[4]) / 1e3, float(words[5]) / 1e3, took, spent / took
    )
