"""An exchange that looks like a chat request's and answers another API's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from muster.frontend.choice import Choice
from muster.frontend.surface.chunks import ChatChunk, ChatReplyView, read_chunks, read_reply
from muster.http.exchange import Exchange
from muster.http.sink import ResponseSink

__all__ = ["ChatExchange", "Opening", "Translation"]


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a reply before its first token.

    Attributes:
        request_id: The request's UUID, of which ids are made.
        model: The name replies carry.
        created: Seconds since the epoch.
        prompt_tokens: The prompt's length, counted.
    """

    request_id: str
    model: str
    created: int
    prompt_tokens: int


class Translation(Protocol):
    """Turns one chat reply into another API's. Pure; made for one request."""

    def open(self, opening: Opening) -> bytes:
        """Take what is known; returns the events a stream begins with."""
        ...

    def chunk(self, chunk: ChatChunk) -> bytes:
        """The events for a chunk, which may be an error: then nothing else follows."""
        ...

    def finish(self, stop: str | None) -> bytes:
        """The events after the last chunk; ``stop`` is the stop string that ended the reply."""
        ...

    def whole(self, reply: ChatReplyView, stop: str | None) -> bytes:
        """The body for a reply that is not streamed."""
        ...


class _Nowhere:
    congested = False

    def send(self, data: bytes) -> None:
        """Unreachable: everything is sent by the exchange behind."""

    async def drained(self) -> None:
        """As ``send``."""

    async def send_file(
        self, descriptor: int, start: int, stop: int, on_sent: Callable[[int], None]
    ) -> None:
        """As ``send``."""


_NOWHERE: ResponseSink = _Nowhere()


class ChatExchange(Exchange):
    """A chat request made of another's; what is sent to it is translated and sent there.

    Args:
        behind: The exchange of the client.
        body: The chat request's.
        translation: Translates the reply.

    """

    __slots__ = ("_behind", "_choice", "_opening", "_translation")

    def __init__(self, behind: Exchange, body: bytes, translation: Translation) -> None:
        super().__init__(
            _NOWHERE, method=behind.method, target=b"", headers=behind.headers, body=body
        )
        self.path = behind.path
        self.query = behind.query
        self.request_id = behind.request_id
        self.caller = behind.caller
        self._behind = behind
        self._translation = translation
        self._opening: Opening | None = None
        self._choice: Choice | None = None

    def prepared(self, opening: Opening, choice: Choice) -> None:
        """Take what is known of the reply, before any of it is sent, and the answer it will be."""
        self._opening = opening
        self._choice = choice

    def respond(
        self,
        status: int,
        body: bytes,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole reply, translated if it is one; errors never come this way."""
        self._open()
        reply = self._translation.whole(read_reply(body), self._stop())
        self.started = self.finished = True
        self._behind.respond(status, reply, content_type=content_type, headers=headers)

    def start_stream(self, data: bytes = b"", *, content_type: str = "text/event-stream") -> None:
        """Begin the stream with the events that come before any token."""
        self.started = True
        opened = self._open()
        self._behind.start_stream(opened + self._translate(data), content_type=content_type)

    def write(self, data: bytes) -> None:
        """Send chunks."""
        self._behind.write(self._translate(data))

    def end(self, data: bytes = b"") -> None:
        """Send the last chunks and what ends the stream."""
        events = self._translate(data) + self._translation.finish(self._stop())
        self.finished = True
        self._behind.end(events)

    @property
    def congested(self) -> bool:
        """Whether the client is too far behind."""
        return self._behind.congested

    async def drained(self) -> None:
        """Wait while the client is too far behind."""
        await self._behind.drained()

    def _open(self) -> bytes:
        if self._opening is None:
            raise RuntimeError("the reply has not been prepared")
        return self._translation.open(self._opening)

    def _stop(self) -> str | None:
        stop = self._choice.stop if self._choice is not None else None
        return stop if isinstance(stop, str) else None

    def _translate(self, data: bytes) -> bytes:
        if not data:
            return b""
        return b"".join(
            event if isinstance(event, bytes) else self._translation.chunk(event)
            for event in read_chunks(data)
        )
