from __future__ import annotations

import asyncio
from typing import Any

import pytest

from muster.frontend.openai.pulse import KEEP_ALIVE, Pulse
from muster.frontend.openai.stream_rules import StreamRules
from muster.http.exchange import Exchange
from muster.testing.virtual_time import run_in_virtual_time


class Client:
    """Notes what is sent to it, and when."""

    congested = False

    def __init__(self) -> None:
        self.sent: list[tuple[float, bytes]] = []
        self.exchange = Exchange(
            self, method="POST", target=b"/", headers={}, body=b"", chunked=False
        )

    def send(self, data: bytes) -> None:
        self.sent.append((round(asyncio.get_running_loop().time(), 3), data))

    async def drained(self) -> None:
        return

    async def send_file(self, *_: object) -> None:
        raise AssertionError("no file is sent")

    def times(self, data: bytes | None = None) -> list[float]:
        return [time for time, sent in self.sent if data is None or sent == data]


def rules(**changes: Any) -> StreamRules:
    return StreamRules(peek_s=0.2, keep_alive_s=15.0, **changes)


def test_headers_wait_for_the_first_events_but_not_for_long() -> None:
    async def test() -> Client:
        client = Client()
        with Pulse(client.exchange, rules()) as pulse:
            pulse.start()
            await asyncio.sleep(5)
            assert client.times() == [0.2]
            pulse.send(b"data: 1\n\n")
            assert client.sent[-1] == (5.0, b"data: 1\n\n")
        return client

    run_in_virtual_time(test())


def test_events_do_not_wait() -> None:
    async def test() -> None:
        client = Client()
        with Pulse(client.exchange, rules()) as pulse:
            pulse.start()
            pulse.send(b"data: 1\n\n")
            assert client.sent[0][1].endswith(b"\r\n\r\ndata: 1\n\n")
            await asyncio.sleep(10)
            assert client.times() == [0.0]

    run_in_virtual_time(test())


def test_without_a_peek_headers_go_at_once() -> None:
    async def test() -> None:
        client = Client()
        with Pulse(client.exchange, StreamRules(peek_s=0, keep_alive_s=15)) as pulse:
            pulse.start()
            assert client.exchange.started
            await asyncio.sleep(20)
            assert client.times() == [0.0, 15.0]

    run_in_virtual_time(test())


def test_nothing_is_sent_before_the_request_is_at_its_engine() -> None:
    async def test() -> None:
        client = Client()
        with Pulse(client.exchange, rules()):
            await asyncio.sleep(100)
            assert client.sent == []

    run_in_virtual_time(test())


def test_each_silence_gets_a_comment_every_fifteen_seconds_of_it() -> None:
    async def test() -> None:
        client = Client()
        with Pulse(client.exchange, rules()) as pulse:
            pulse.start()
            pulse.send(b"data: 1\n\n")
            for _ in range(4):
                await asyncio.sleep(14)
                pulse.send(b"data: 2\n\n")
            assert client.times(KEEP_ALIVE) == []
            await asyncio.sleep(31)
            assert client.times(KEEP_ALIVE) == [71.0, 86.0]
            pulse.send(b"data: 3\n\n")
            await asyncio.sleep(14)
            assert len(client.times(KEEP_ALIVE)) == 2

    run_in_virtual_time(test())


@pytest.mark.parametrize("over", [False, True])
def test_a_client_that_does_not_read_and_a_stream_that_is_over_get_no_comments(over: bool) -> None:
    async def test() -> None:
        client = Client()
        with Pulse(client.exchange, rules()) as pulse:
            pulse.start()
            pulse.send(b"data: 1\n\n")
            if not over:
                client.congested = True
                await asyncio.sleep(100)
        await asyncio.sleep(100)
        assert client.times(KEEP_ALIVE) == []

    run_in_virtual_time(test())


def test_comments_can_be_switched_off() -> None:
    async def test() -> None:
        client = Client()
        with Pulse(client.exchange, StreamRules(keep_alive_s=0)) as pulse:
            pulse.start()
            await asyncio.sleep(1000)
            assert client.times() == [0.2]

    run_in_virtual_time(test())
