"""What the status server reads of a request beside its path: bodies, and names within paths."""

from __future__ import annotations

import asyncio
from urllib.parse import unquote_to_bytes

from aiohttp import HttpVersion11, hdrs, web

from muster.config.settings import SystemSettings
from muster.errors import InvalidArgument, ResponseTimeout, TooLargeError

__all__ = ["TOO_LARGE", "decode_name", "read_body"]

TOO_LARGE = "Failed to buffer the request body: length limit exceeded"
"""Dynamo's answer, with status 413, to a body above the limit."""


async def read_body(request: web.BaseRequest, settings: SystemSettings) -> bytes:
    """The whole body, empty if there is none.

    Raises:
        TooLargeError: It has more bytes than the settings allow; hardly more than that was kept.
        ResponseTimeout: The client did not send it within the time they allow.
    """
    limit_bytes, timeout_s = settings.body_limit_bytes, settings.body_timeout_s
    if not request.body_exists:
        return b""
    if (request.content_length or 0) > limit_bytes:
        raise TooLargeError(TOO_LARGE)
    expects = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if expects and request.version == HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > limit_bytes:
                    raise TooLargeError(TOO_LARGE)
    except TimeoutError as error:
        raise ResponseTimeout(f"the body did not arrive within {timeout_s:g} s") from error
    return bytes(body)


def decode_name(text: str, *, what: str) -> str:
    """A name at the end of a raw path, its percent escapes decoded once.

    Args:
        text: As sent; bytes outside UTF-8 as surrogate escapes.
        what: What Dynamo calls it in its message.

    Raises:
        InvalidArgument: If it is not UTF-8; the message is Dynamo's.
    """
    try:
        return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8")
    except UnicodeError as error:
        raise InvalidArgument(f"Invalid URL: Invalid UTF-8 in `{what}`") from error
