"""What a frontend's processes and their supervisor tell each other, and how it travels.

Each process has one stream socket to the supervisor, made before it was started. A frame is the
length of its payload (32 bits, big-endian) and the payload, MessagePack. All are of one version of
Muster, so nothing here has to stay as it is.
"""

from __future__ import annotations

import asyncio
import socket
import struct

import msgspec

__all__ = [
    "AskPage",
    "Changed",
    "Channel",
    "Done",
    "Drain",
    "Failed",
    "Family",
    "Gone",
    "Merged",
    "Note",
    "Page",
    "Ready",
    "Scrape",
    "Seen",
    "Tally",
    "Tick",
    "ToProcess",
    "ToSupervisor",
    "read_frame",
    "to_frame",
]

_LENGTH = struct.Struct(">I")
_encode = msgspec.msgpack.Encoder().encode


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """One model's counts in one process since it started; what the dashboard computes with.

    Attributes:
        started: Requests that arrived.
        succeeded: Requests answered.
        failed: Requests that failed, without clients that left.
        cancelled: Requests whose client left.
        tokens: Tokens generated.
        active: Requests being answered now.
        queued: Those of them without a first token.
        ttft: Observations of the time to the first token, by bucket.
        itl: The same of the time between tokens.
    """

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    tokens: int = 0
    active: int = 0
    queued: int = 0
    ttft: tuple[int, ...] = ()
    itl: tuple[int, ...] = ()


class Family(msgspec.Struct, frozen=True, array_like=True):
    """A metric family; a sample is its name, its labels and its value."""

    name: str
    text: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


class Ready(msgspec.Struct, frozen=True, tag=True):
    """A process listens."""

    port: int
    admin_port: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    """A process ends because of this error; ``code`` is the exit code it asks for."""

    text: str
    code: int


class Tick(msgspec.Struct, frozen=True, tag=True):
    """A process lives. Sent once a second.

    Attributes:
        tallies: Of models whose counts are not those told last.
        status: The word of ``/health``.
        message: Why it is not ``healthy``.
        served: Names of all models served; ``None`` if they are those told last.
    """

    tallies: dict[str, Tally]
    status: str
    message: str
    served: list[str] | None


class Page(msgspec.Struct, frozen=True, tag=True):
    """A process's metrics, as asked for by ``number``, or unasked (0)."""

    number: int
    families: list[Family]


class Scrape(msgspec.Struct, frozen=True, tag=True):
    """A process is asked for its metrics, which these are, and wants those of all."""

    number: int
    families: list[Family]


class Changed(msgspec.Struct, frozen=True, tag=True):
    """A model's busy thresholds, by name, in the process that says so and soon in all."""

    number: int
    model: str
    thresholds: dict[str, float | int | None]


class Done(msgspec.Struct, frozen=True, tag=True):
    """``Changed`` has been carried out; ``missing`` are the processes that did not say so in time."""

    number: int
    missing: tuple[int, ...] = ()


class AskPage(msgspec.Struct, frozen=True, tag=True):
    """The supervisor wants a process's metrics."""

    number: int


class Merged(msgspec.Struct, frozen=True, tag=True):
    """The metrics of all processes, in the text format."""

    number: int
    text: bytes


class Seen(msgspec.Struct, frozen=True, tag=True):
    """What another process told of itself; see ``Tick``."""

    process: int
    pid: int
    restarts: int
    tick: Tick


class Gone(msgspec.Struct, frozen=True, tag=True):
    """A process has ended: what all that have ended counted, of the models that changes for."""

    process: int
    past: dict[str, Tally]


class Drain(msgspec.Struct, frozen=True, tag=True):
    """All processes are to end."""


class Note(msgspec.Struct, frozen=True, tag=True):
    """Something happened to a process, at a time since the epoch; for the list of events."""

    at: float
    level: str
    what: str
    detail: str


ToSupervisor = Ready | Failed | Tick | Page | Scrape | Changed | Done
ToProcess = AskPage | Merged | Seen | Gone | Note | Changed | Done | Drain

_to_supervisor = msgspec.msgpack.Decoder(ToSupervisor)
_to_process = msgspec.msgpack.Decoder(ToProcess)


def to_frame(payload: bytes) -> bytes:
    """``payload`` with its length before it."""
    return _LENGTH.pack(len(payload)) + payload


def read_frame(connection: socket.socket) -> bytes:
    """The next frame's payload from a blocking socket.

    Raises:
        EOFError: The other side has closed it.
    """
    return _exactly(connection, _LENGTH.unpack(_exactly(connection, _LENGTH.size))[0])


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise EOFError("the connection was closed")
        parts += part
    return bytes(parts)


class Channel:
    """One end of the socket between a process and the supervisor. The event loop's thread only."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, connection: socket.socket) -> Channel:
        """A channel that owns ``connection``."""
        return cls(*await asyncio.open_connection(sock=connection))

    @property
    def backlog(self) -> int:
        """Bytes that were sent and that the other side has not read."""
        return self._writer.transport.get_write_buffer_size()

    def send(self, message: ToSupervisor | ToProcess) -> None:
        """Send without waiting; nothing happens if the other side is gone."""
        if not self._writer.is_closing():
            self._writer.write(to_frame(_encode(message)))

    def send_payload(self, payload: bytes) -> None:
        """The same for a payload of another encoding, which the other side expects."""
        self._writer.write(to_frame(payload))

    async def flush(self, timeout_s: float) -> None:
        """Give what was sent so much time to leave."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._writer.drain()
        except (OSError, TimeoutError):
            return

    async def from_process(self) -> ToSupervisor | None:
        """The supervisor's next message; ``None`` when the process has gone."""
        payload = await self._payload()
        return None if payload is None else _to_supervisor.decode(payload)

    async def from_supervisor(self) -> ToProcess | None:
        """A process's next message; ``None`` when the supervisor has gone."""
        payload = await self._payload()
        return None if payload is None else _to_process.decode(payload)

    async def _payload(self) -> bytes | None:
        try:
            (size,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, OSError):
            return None

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._writer.close()
