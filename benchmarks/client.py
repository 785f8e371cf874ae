"""An HTTP client that notes when things come: first token, end, how many tokens.

For what wrk cannot do: requests at times of their own (open loop), times to the first token, and
tokens counted while they come. It runs on uvloop, looks at bytes and parses no JSON; what it can do
at most is measured against ``trivial_server.py``.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

__all__ = ["OpenLoop", "Reply", "Streams", "lanes", "one_by_one", "open_loop", "p99", "request_of"]

_TEXT = re.compile(rb'"(?:content|text)": ?"[^"]')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_EVENT = b"data: "
_LAST_CHUNK = b"0\r\n\r\n"
_LIMIT_S = 60.0


class Reply(NamedTuple):
    """One reply; times are seconds since its request was written."""

    first_s: float
    whole_s: float


class OpenLoop(NamedTuple):
    """Requests at times of their own.

    Attributes:
        first_s: Seconds from when each request was due to its first token.
        whole_s: Seconds from when it was due to its end.
        late_s: Seconds from when it was due to when the client wrote it.
        client_cores: CPU time of the client, a second.
    """

    first_s: list[float]
    whole_s: list[float]
    late_s: list[float]
    client_cores: float


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[-1]


def request_of(body: str, *, fresh: bool = False) -> bytes:
    """A chat request on the wire; ``fresh`` asks the server to close the connection after it."""
    data = body.encode()
    close = "Connection: close\r\n" if fresh else ""
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    return f"{head}{close}Content-Length: {len(data)}\r\n\r\n".encode() + data


class Connection(asyncio.Protocol):
    """One connection, one request at a time.

    Attributes:
        events: Server-sent events that have come so far; one may be there early, not late.
    """

    def __init__(self) -> None:
        self.events = 0
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._head: bytearray | None = None
        self._until_first = bytearray()
        self._tail = b""
        self._status = b""
        self._left: int | None = None
        self._began = self._first = 0.0

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect."""
        _, made = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return made

    def close(self) -> None:
        """Close it, whatever is under way."""
        if self._transport:
            self._transport.abort()

    async def ask(self, request: bytes) -> Reply:
        """Send a request and wait for the whole reply.

        Raises:
            RuntimeError: It is not a 200, has no text, or the connection was lost.
            TimeoutError: It took longer than a minute.
        """
        if self._transport is None:
            raise RuntimeError("there is no connection")
        self._waiting = asyncio.get_running_loop().create_future()
        self._head, self._until_first, self._tail, self._first = bytearray(), bytearray(), b"", 0.0
        self._began = time.perf_counter()
        self._transport.write(request)
        async with asyncio.timeout(_LIMIT_S):
            return await self._waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(RuntimeError(f"the connection was lost: {exc}"))

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            head, end, rest = bytes(self._head).partition(b"\r\n\r\n")
            if not end:
                return
            self._head, data, self._status = None, rest, head[9:12]
            length = _LENGTH.search(head)
            self._left = int(length[1]) if length else None
        self._take(data)

    def _take(self, data: bytes) -> None:
        """Some of the reply's body."""
        joined = self._tail + data
        self.events += joined.count(_EVENT)
        if not self._first:
            self._until_first += data
            if _TEXT.search(self._until_first):
                self._first = time.perf_counter()
        self._tail = joined[-5:]
        if self._left is not None:
            self._left -= len(data)
            over = self._left <= 0
        else:
            over = self._tail == _LAST_CHUNK
        if over and self._waiting and not self._waiting.done():
            if self._status == b"200" and self._first:
                now = time.perf_counter()
                self._waiting.set_result(Reply(self._first - self._began, now - self._began))
            else:
                said = bytes(self._until_first[:1000]).decode("utf-8", "replace")
                self._waiting.set_exception(RuntimeError(f"{self._status.decode()}: {said}"))


async def one_by_one(port: int, requests: Iterable[bytes], *, fresh: bool) -> list[Reply]:
    """One after the other, on one connection or on a ``fresh`` one each (connecting counts)."""
    found: list[Reply] = []
    connection = None if fresh else await Connection.open(port)
    for request in requests:
        began = time.perf_counter()
        used = connection or await Connection.open(port)
        connecting = time.perf_counter() - began if fresh else 0.0
        reply = await used.ask(request)
        found.append(Reply(reply.first_s + connecting, reply.whole_s + connecting))
        if fresh:
            used.close()
    if connection:
        connection.close()
    return found


async def open_loop(
    port: int, request: Callable[[int], bytes], *, rate: float, seconds: float, fresh: bool = False
) -> OpenLoop:
    """Requests at ``rate`` a second, at random but repeatable times, however long replies take.

    A connection that is idle is used again (a new one is made where none is), or each request gets
    a ``fresh`` one.
    """
    moments = random.Random(1)
    idle: list[Connection] = []
    found = OpenLoop([], [], [], 0.0)

    async def send(due: float, message: bytes) -> None:
        connection = idle.pop() if idle else await Connection.open(port)
        late = time.perf_counter() - due
        reply = await connection.ask(message)
        found.late_s.append(late)
        found.first_s.append(late + reply.first_s)
        found.whole_s.append(late + reply.whole_s)
        if fresh:
            connection.close()
        else:
            idle.append(connection)

    began, cpu = time.perf_counter(), time.process_time()
    due = began
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            due += moments.expovariate(rate)
            if due > began + seconds:
                break
            await asyncio.sleep(due - time.perf_counter())
            group.create_task(send(due, request(number)))
    for connection in idle:
        connection.close()
    took = time.perf_counter() - began
    return found._replace(client_cores=(time.process_time() - cpu) / took)


async def lanes(
    port: int, request: Callable[[int], bytes], *, at_once: int, seconds: float
) -> tuple[list[Reply], float]:
    """``at_once`` connections, each with one request at a time: replies, and seconds it took.

    No request begins after ``seconds``; those under way are waited for, and count.
    """
    began = time.perf_counter()
    numbers = itertools.count()
    found: list[Reply] = []

    async def lane() -> None:
        connection = await Connection.open(port)
        while time.perf_counter() - began < seconds:
            found.append(await connection.ask(request(next(numbers))))
        connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(lane())
    return found, time.perf_counter() - began


class Streams:
    """Streams without end: ``count`` connections that always have one under way.

    Use it with ``async with``; while it is open, ``events`` counts.
    """

    def __init__(self, port: int, request: bytes, count: int) -> None:
        self._port = port
        self._request = request
        self._count = count
        self._connections: list[Connection] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Streams:
        self._connections = [await Connection.open(self._port) for _ in range(self._count)]
        self._tasks = [asyncio.create_task(self._keep(each)) for each in self._connections]
        return self

    async def __aexit__(self, *_: object) -> None:
        failed = [task for task in self._tasks if task.done()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in self._connections:
            each.close()
        for task in failed:
            task.result()

    def events(self) -> int:
        """Events that have come: one a token, and one or two more a stream."""
        return sum(each.events for each in self._connections)

    async def _keep(self, connection: Connection) -> None:
        while True:
            await connection.ask(self._request)
