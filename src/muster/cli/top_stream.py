"""A frontend's live stream, followed by a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from muster.errors import TransportError

__all__ = ["PATH", "open_stream"]

PATH = "/v1/muster/live"
_CONNECT_S = 5.0
_SILENCE_S = 15.0
_LARGEST = 64 << 20
"""Largest event that is read: a snapshot of a very large fleet takes some MB."""


@contextlib.asynccontextmanager
async def open_stream(
    url: str, key: str = "", last_id: str = ""
) -> AsyncIterator[AsyncIterator[tuple[str, str, bytes]]]:
    """The events of the frontend at ``url``, as id, name and data, until it ends the stream.

    Args:
        url: The frontend's address, without a path.
        key: An admin's key, if it wants one.
        last_id: The last event that was seen, to go on after it.

    Raises:
        TransportError: It cannot be reached, does not stream, or is silent for 15 s.
    """
    headers = {"accept": "text/event-stream"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    if last_id:
        headers["last-event-id"] = last_id
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, read_bufsize=_LARGEST) as session,
            session.get(url + PATH, headers=headers, allow_redirects=False) as reply,
        ):
            _check(url, reply)
            yield _events(reply)
    except TimeoutError as error:
        raise TransportError(
            f"the frontend at {url} does not answer in time", hint="is it overloaded, or stopped?"
        ) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise TransportError(
            f"no frontend answers at {url}: {error}",
            hint="start one with `muster frontend`, or say where it is with --frontend",
        ) from error


def _check(url: str, reply: Any) -> None:
    if reply.status in (401, 403):
        raise TransportError(
            f"the frontend at {url} wants an admin's key (status {reply.status})",
            hint="put it into a file and name that with --api-key-file, or set MUSTER_API_KEY",
        )
    if reply.status == 503:
        raise TransportError(
            f"the frontend at {url} shuts down, or too many watch it", hint="try again"
        )
    if reply.status != 200 or reply.content_type != "text/event-stream":
        raise TransportError(
            f"{url}{PATH} answers with status {reply.status} and {reply.content_type}",
            hint="it is no frontend of Muster's, or its admin routes are on another port",
        )


async def _events(reply: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str, bytes]]:
    event_id, name, data = "", "", b""
    async for line in reply.content:
        field, _, value = line.rstrip(b"\r\n").partition(b": ")
        match field:
            case b"id":
                event_id = value.decode()
            case b"event":
                name = value.decode()
            case b"data":
                data = value
            case b"" if data:
                yield event_id, name, data
                name, data = "", b""
            case _:
                pass
