"""A steady load of chats on frontends, and what became of every single one.

Clients run on a thread of their own, so that a test can meanwhile do things to processes. Each
sends one chat after another, half of them streamed. A connection that is refused or breaks is tried
again on the next frontend, within the deadline of the request, and remembered.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import aiohttp

from muster.testing.outcomes import Lost, Outcome, Summary
from muster.testing.replies import Ending, Verdict, read_reply, read_stream

__all__ = ["Load"]

_DATA = b"data: "
_RETRY_S = 0.1


class Load:
    """Clients that go on until the ``with`` block is left, and then finish what they began.

    Args:
        urls: Frontends; a client stays with one until that loses a connection.
        model: Its name. It must not end replies by itself.
        clients: Requests under way at a time.
        deadline_s: How long a request may take.
        lengths: Tokens of a reply, drawn at random.
        pause_s: A client's pause between two requests.
        streamed: The part of requests that are streamed.
        seed: Of what is drawn.

    Attributes:
        outcomes: What became of each request, in the order of their ends.
        lost: Connections lost.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        *,
        clients: int = 24,
        deadline_s: float = 30.0,
        lengths: Sequence[int] = (4, 40, 200),
        pause_s: float = 0.05,
        streamed: float = 0.5,
        seed: int = 0,
    ) -> None:
        self._urls = list(urls)
        self._model = model
        self._clients = clients
        self._deadline_s = deadline_s
        self._lengths = lengths
        self._pause_s = pause_s
        self._streamed = streamed
        self._seed = seed
        self._thread = threading.Thread(target=self._run, name="load")
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = False
        self._in_flight = 0
        self.outcomes: list[Outcome] = []
        self.lost: list[Lost] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._open_gate(True)
        self._thread.join()

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Nothing is in flight within; the load goes on after."""
        self._open_gate(False)
        try:
            while self._in_flight:
                time.sleep(0.01)
            yield
        finally:
            self._open_gate(True)

    def summary(self) -> Summary:
        """Up to now."""
        return Summary.of([*self.outcomes], [*self.lost])

    def failures(self) -> list[Outcome]:
        """Those that were not answered in full."""
        return [outcome for outcome in [*self.outcomes] if outcome.ending is not Ending.ANSWER]

    def _open_gate(self, open_: bool) -> None:
        async def turn() -> None:
            if open_:
                self._gate.set()
            else:
                self._gate.clear()

        if self._loop is not None and self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(turn(), self._loop).result(10)

    # -- on the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._gate = asyncio.Event()
        self._gate.set()
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=20)
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self._clients):
                group.create_task(self._client(session, number))

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        draw = random.Random(f"{self._seed}/{number}")
        place = number
        await asyncio.sleep(draw.random() * self._pause_s)
        while await self._may_go_on():
            streamed = draw.random() < self._streamed
            tokens = draw.choice(self._lengths)
            self._in_flight += 1
            try:
                place = await self._request(session, place, streamed=streamed, tokens=tokens)
            finally:
                self._in_flight -= 1
            await asyncio.sleep(self._pause_s)

    async def _may_go_on(self) -> bool:
        if not self._stopped:
            await self._gate.wait()
        return not self._stopped

    async def _request(
        self, session: aiohttp.ClientSession, place: int, *, streamed: bool, tokens: int
    ) -> int:
        """Send one chat until somebody has answered; returns whom to ask next."""
        began = time.monotonic()
        status = 0
        verdict = Verdict(Ending.LATE, message="no answer")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._deadline_s):
                while True:
                    attempt = time.monotonic()
                    url = self._urls[place % len(self._urls)]
                    try:
                        status, verdict = await self._exchange(session, url, streamed, tokens)
                        break
                    except (aiohttp.ClientError, ConnectionError) as error:
                        at = time.monotonic()
                        self.lost.append(Lost(url=url, began=attempt, at=at, reason=repr(error)))
                        place += 1
                        await asyncio.sleep(_RETRY_S)
        self.outcomes.append(
            Outcome(
                ending=verdict.ending,
                streamed=streamed,
                status=status,
                code=verdict.code,
                message=verdict.message,
                began=began,
                seconds=time.monotonic() - began,
            )
        )
        return place

    async def _exchange(
        self, session: aiohttp.ClientSession, url: str, streamed: bool, tokens: int
    ) -> tuple[int, Verdict]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": "Say something about the sea."}],
            "max_tokens": tokens,
        }
        if streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
            if not streamed or reply.status != 200:
                return reply.status, read_reply(reply.status, await reply.read(), tokens)
            events = [
                line[len(_DATA) :].rstrip(b"\r\n")
                async for line in reply.content
                if line.startswith(_DATA)
            ]
            return reply.status, read_stream(events, tokens)
