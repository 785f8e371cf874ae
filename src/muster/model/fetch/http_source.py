"""Files behind http(s) as a source.

The client is loaded when the first file is asked for: it is larger than all of a worker, and who
has every file in its store or on its disk needs none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from muster.clock import SYSTEM_CLOCK, Clock
from muster.config.settings import FetchSettings
from muster.digest import Digest
from muster.model.fetch.place import HttpPlace

if TYPE_CHECKING:
    from muster.model.fetch.http_client import HttpClient

__all__ = ["HttpSource"]


class HttpSource:
    """Gets files with one client, made at the first use in a running loop; ``close`` it.

    Args:
        settings: Deadlines.
        token: Sent to workers, and to nobody else.
        clock: Its wall time is what dates in answers are compared with.
    """

    def __init__(
        self, settings: FetchSettings, *, token: str | None = None, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._settings = settings
        self._token = token
        self._clock = clock
        self._made: HttpClient | None = None

    async def warm_up(self) -> None:
        """Load the client now, so that the first file need not wait for it."""
        await asyncio.to_thread(_client_class)

    async def close(self) -> None:
        """Close all connections; idempotent."""
        made, self._made = self._made, None
        if made is not None:
            await made.close()

    @contextlib.asynccontextmanager
    async def open(
        self, place: HttpPlace, *, digest: Digest, start: int = 0, cap_bytes: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """See ``FileSource.open``, and ``HttpClient.open`` for what is raised."""
        client = await self._client()
        async with client.open(place, digest=digest, start=start, cap_bytes=cap_bytes) as body:
            yield body

    async def _client(self) -> HttpClient:
        if self._made is None:
            kind = await asyncio.to_thread(_client_class)
            if self._made is None:
                self._made = kind(self._settings, token=self._token, clock=self._clock)
        return self._made


def _client_class() -> type[HttpClient]:
    """The client; loading it takes as long as answering some hundred requests, so not on the loop."""
    from muster.model.fetch.http_client import HttpClient

    return HttpClient
