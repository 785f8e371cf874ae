"""The least an HTTP server can do: the same reply to every chat, for what the load generators reach.

``trivial_server.py PORT`` answers a request with 16 tokens, or a streamed one with as many events as
it asks for, in one write. ``ceilings`` starts it and loads it with wrk and with the suite's client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import cast

import uvloop
from client import Reply, lanes, request_of
from systems import free_port, process
from wrk import chat_body, wrk

__all__ = ["ceilings"]

_MAX_TOKENS = re.compile(rb'"max_tokens":(\d+)')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@cache
def unary() -> bytes:
    message = {"role": "assistant", "content": " word" * 16}
    choices = [{"index": 0, "message": message, "finish_reason": "length"}]
    body = json.dumps({"id": "chatcmpl-1", "model": "bench", "choices": choices}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@cache
def streamed(tokens: int) -> bytes:
    choice = {"index": 0, "delta": {"content": " word", "role": "assistant"}}
    shape = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "bench"}
    event = b"data: " + json.dumps({**shape, "choices": [choice]}).encode() + b"\n\n"
    events = [event] * tokens + [b"data: [DONE]\n\n"]
    chunks = [b"%x\r\n%s\r\n" % (len(each), each) for each in events]
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"".join(chunks) + b"0\r\n\r\n"


class Trivial(asyncio.Protocol):
    """Waits for a whole request and answers it."""

    def __init__(self) -> None:
        self._seen = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are no subclass

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, end, body = self._seen.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or not length or len(body) < int(length[1]) or self._transport is None:
            return
        self._seen = b""
        wanted = _MAX_TOKENS.search(body)
        if b'"stream":true' in body and wanted:
            self._transport.write(streamed(int(wanted[1])))
        else:
            self._transport.write(unary())


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Trivial, "127.0.0.1", port)
    await server.serve_forever()


@contextlib.contextmanager
def _running() -> Iterator[int]:
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        with process([sys.executable, __file__, str(port)], root, "trivial", {}, None):
            deadline = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError((root / "trivial.log").read_text())
                time.sleep(0.05)
            yield port


async def _python(port: int, body: str, seconds: float) -> tuple[list[Reply], float]:
    request = request_of(body)
    return await lanes(port, lambda _: request, at_once=16, seconds=seconds)


def ceilings(seconds: float) -> dict[str, float]:
    """What the load generators reach against a server that does nothing, on this machine.

    Requests/s of 16 tokens and streamed tokens/s (128 a request) at 16 connections, from wrk and
    from the Python client. A system that is measured at much less is not limited by them.
    """
    with _running() as port:
        found = {}
        for kind, stream, tokens, unit in (("unary", False, 16, 1), ("stream", True, 128, 128)):
            result = wrk(port, connections=16, seconds=seconds, max_tokens=tokens, stream=stream)
            found[f"wrk_{kind}_per_s"] = result.requests_s * unit
            replies, took = uvloop.run(_python(port, chat_body(tokens, stream=stream), seconds))
            found[f"client_{kind}_per_s"] = len(replies) * unit / took
    return found


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
