"""A HEAD request by hand, to real sockets."""

from __future__ import annotations

import asyncio

import pytest

from muster.http.head_request import ask_head
from muster.testing.loops import run


def ask(
    answer: bytes, path: str = "/", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """The answer as it is understood, and what was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        for byte in answer:
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        writer.close()

    async def test() -> tuple[int, dict[str, str]]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await ask_head(f"http://127.0.0.1:{port}{path}", headers or {})

    return *run(test()), asked[0]


def test_status_and_headers_are_understood_however_they_arrive() -> None:
    head = b'HTTP/1.1 404 No\r\nETag: "a"\r\nContent-Length: 5\r\n\r\n'
    status, fields, _ = ask(head)
    assert (status, fields) == (404, {"etag": '"a"', "content-length": "5"})


def test_the_target_is_sent_as_it_is_spelled() -> None:
    *_, asked = ask(b"HTTP/1.1 200 OK\r\n\r\n", "/a%2Fb/../c?d=e", {"authorization": "Bearer t"})
    assert asked.startswith(b"HEAD /a%2Fb/../c?d=e HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"\r\nauthorization: Bearer t\r\n" in asked
    assert b"\r\nconnection: close\r\n" in asked


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"])
def test_what_is_no_answer_is_an_error(answer: bytes) -> None:
    with pytest.raises(ConnectionError, match=r"its answer is not HTTP|without an answer"):
        ask(answer)


@pytest.mark.parametrize("url", ["", "x", "http://", "ftp://127.0.0.1/", "http://h:99999/"])
def test_what_is_no_url_is_an_error(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the standard library's words
        run(ask_head(url, {}))
