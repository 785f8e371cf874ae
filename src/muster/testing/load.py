"""A steady load of chats on frontends, and what became of every single one.

Clients run on a thread of their own, so that a test can meanwhile do things to processes. Each
sends one chat after another, half of them streamed. A connection that is refused or breaks is tried
again on the next frontend, within the deadline of the request, and remembered.

What a reply is worth is decided by pure functions: see ``read_reply`` and ``read_stream``.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import aiohttp
import msgspec

__all__ = ["Ending", "Load", "Lost", "Outcome", "Summary", "Verdict", "read_reply", "read_stream"]

_DATA = b"data: "
_RETRY_S = 0.1


class Ending(enum.StrEnum):
    """How a request ended."""

    ANSWER = "answer"
    ERROR = "error"
    """A clear one: a status or an event of its own, with a message."""
    BROKEN = "broken"
    """Anything else a reply can be: cut off, incomplete, or an error without a message."""
    LATE = "late"
    """No end within the deadline."""


class Verdict(NamedTuple):
    """What a reply is worth, and for an error its code and message."""

    ending: Ending
    code: str = ""
    message: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request.

    Attributes:
        ending: How it ended.
        streamed: Whether it was to be streamed.
        status: HTTP's; 0 if there was none.
        code: The error's, if it is one.
        message: The error's, or what is wrong with the reply.
        began: By the monotonic clock.
        seconds: How long it took, attempts on other frontends included.
    """

    ending: Ending
    streamed: bool
    status: int = 0
    code: str = ""
    message: str = ""
    began: float
    seconds: float


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that was refused or broke; its request was sent to the next frontend.

    Attributes:
        url: The frontend.
        began: When the attempt began, by the monotonic clock.
        at: When it failed.
        reason: What the client saw.
    """

    url: str
    began: float
    at: float
    reason: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Outcomes in numbers; as text, one line.

    Attributes:
        requests: All of them.
        answers: Those that were answered in full.
        streams: How many answers were streams.
        errors: Clear errors by status and code.
        broken: Replies that were neither.
        late: Requests that did not end within their deadline.
        retries: Connections lost; each was tried again elsewhere.
        slowest_s: The longest a request took.
    """

    requests: int
    answers: int
    streams: int
    errors: dict[str, int]
    broken: int
    late: int
    retries: int
    slowest_s: float

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], lost: Sequence[Lost] = ()) -> Self:
        """Count them."""
        endings = Counter(outcome.ending for outcome in outcomes)
        errors = Counter(
            f"{outcome.status} {outcome.code}".rstrip()
            for outcome in outcomes
            if outcome.ending is Ending.ERROR
        )
        answers = [outcome for outcome in outcomes if outcome.ending is Ending.ANSWER]
        return cls(
            requests=len(outcomes),
            answers=len(answers),
            streams=sum(outcome.streamed for outcome in answers),
            errors=dict(sorted(errors.items())),
            broken=endings[Ending.BROKEN],
            late=endings[Ending.LATE],
            retries=len(lost),
            slowest_s=max((outcome.seconds for outcome in outcomes), default=0.0),
        )

    def __str__(self) -> str:
        errors = ", ".join(f"{count} x {code}" for code, count in self.errors.items()) or "none"
        return (
            f"{self.requests} requests: {self.answers} answers ({self.streams} streamed), "
            f"errors: {errors}, broken: {self.broken}, late: {self.late}, "
            f"connections lost and retried: {self.retries}, slowest {self.slowest_s:.1f} s"
        )


def read_reply(status: int, body: bytes, tokens: int) -> Verdict:
    """What a reply to a chat that was to have ``tokens`` tokens is worth."""
    try:
        reply = json.loads(body)
    except ValueError:
        return Verdict(Ending.BROKEN, message=f"no JSON: {body[:200]!r}")
    if status != 200:
        return _error(reply)
    return _complete(reply, tokens)


def read_stream(events: Sequence[bytes], tokens: int) -> Verdict:
    """What a streamed reply with status 200 is worth: the texts after ``data: ``, in order.

    An answer names a reason for its end and has all its tokens; an error is an event of its own.
    Both end with ``[DONE]``.
    """
    if not events or events[-1] != b"[DONE]":
        return Verdict(Ending.BROKEN, message=f"ends with {events[-1:]!r} and no [DONE]")
    try:
        chunks = [json.loads(event) for event in events[:-1]]
    except ValueError:
        return Verdict(Ending.BROKEN, message="an event is no JSON")
    for chunk in chunks:
        if "error" in chunk:
            return _error(chunk)
    finished = any(
        choice.get("finish_reason") for chunk in chunks for choice in chunk.get("choices", ())
    )
    if not finished:
        return Verdict(Ending.BROKEN, message="no finish_reason")
    return _complete(chunks[-1], tokens)


def _error(reply: Any) -> Verdict:
    error = _part(reply, "error")
    message = _part(error, "message")
    if not isinstance(message, str) or not message:
        return Verdict(Ending.BROKEN, message=f"an error without a message: {str(reply)[:200]}")
    return Verdict(Ending.ERROR, code=str(_part(error, "code") or ""), message=message)


def _complete(reply: Any, tokens: int) -> Verdict:
    had = _part(_part(reply, "usage"), "completion_tokens")
    if had != tokens:
        return Verdict(Ending.BROKEN, message=f"{had} of {tokens} tokens")
    return Verdict(Ending.ANSWER)


def _part(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


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
