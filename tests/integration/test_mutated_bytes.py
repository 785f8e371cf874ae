"""Requests with damaged bytes: each is answered or its connection closed, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from pathlib import Path

import aiohttp
import pytest

from muster.config.settings import GuardSettings
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids, write_tiny_model

ROUNDS = 2000
AT_ONCE = 50
ANSWER_S = 20.0


def request(path: str, body: bytes, *fields: bytes, method: str = "POST") -> bytes:
    head = [
        f"{method} {path} HTTP/1.1".encode(),
        b"host: x",
        b"content-type: application/json",
        *fields,
    ]
    return b"\r\n".join([*head, b"", b""]) + body


def sized(path: str, body: bytes, *fields: bytes) -> bytes:
    return request(path, body, b"content-length: %d" % len(body), *fields)


CHAT = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "grüße"}]}).encode()
STREAM = json.dumps({"model": "tiny", "prompt": ["a", "b"], "echo": True, "stream": True}).encode()
CHUNKED = b"".join(
    b"%x\r\n%b\r\n" % (len(CHAT[i : i + 20]), CHAT[i : i + 20]) for i in range(0, len(CHAT), 20)
)
SEEDS = (
    sized("/v1/chat/completions", CHAT),
    sized("/v1/completions", STREAM, b"x-request-id: one"),
    request("/v1/chat/completions", CHUNKED + b"0\r\n\r\n", b"transfer-encoding: chunked"),
    sized("/v1/messages", CHAT, b"anthropic-version: 2023-06-01"),
    sized("/tokenize", b'{"model":"tiny","prompt":"x"}', b"expect: 100-continue"),
    request("/v1/models", b"", method="GET") + request("/live", b"", method="GET"),
    sized("/v1/chat/completions", CHAT, b"connection: upgrade", b"upgrade: h2c"),
)
PIECES = (
    b"\r\n", b"\n", b"\r", b"\x00", b"\xff", b" ", b":", b"\r\n\r\n", b"0\r\n\r\n", b"{", b"[" * 3000,
    b'"', b"transfer-encoding: chunked\r\n", b"content-length: 5\r\n", b"expect: 100-continue\r\n",
    b"9" * 30, b"GET / HTTP/1.1\r\n", b"\xc3", b"\\ud800", b"1e999", b'"model":"tiny",',
    b"connection: close\r\n", b"HEAD ", b"OPTIONS ", b"%00", b"../",
)  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(changed) + 1)
        match chance.randrange(5):
            case 0 if place < len(changed):
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                del changed[place:]
            case 2:
                del changed[place : place + chance.randint(1, 9)]
            case 3:
                changed[place:place] = chance.choice(PIECES)
            case _:
                changed[place:place] = chance.randbytes(chance.randint(1, 5))
    return bytes(changed)


def statuses_of(answer: bytes) -> list[int]:
    """The statuses in what a connection brought; each is the beginning of a line of its own."""
    found = []
    for part in answer.split(b"HTTP/1.1 ")[1:]:
        found.append(int(part[:3]))
    return found


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def test_damaged_requests_are_answered_or_refused_and_the_server_stays_well(
    directory: Path,
) -> None:
    chance = random.Random(20260711)
    cases = [damaged(chance.choice(SEEDS), chance) for _ in range(ROUNDS)]
    # Of empty lines alone no request begins: such a connection is idle, which is not a fault.
    cases = [case for case in cases if case.strip(b"\r\n")]

    def script(_: object) -> ScriptedStream:
        return ScriptedStream().push(*outputs(token_ids("hi"), "stop")).end()

    async def test() -> None:
        model = ScriptedModel(directory, script=script)
        # What is cut short is waited for: not for long here.
        guard = GuardSettings(request_timeout_s=0.2)
        seen: set[int] = set()
        async with (
            running_frontend(model, guard=guard) as frontend,
            aiohttp.ClientSession() as session,
        ):
            turns = asyncio.Semaphore(AT_ONCE)

            async def one(case: bytes) -> None:
                async with turns:
                    reader, writer = await asyncio.open_connection("127.0.0.1", frontend.port)
                    try:
                        writer.write(case)
                        async with asyncio.timeout(ANSWER_S):
                            await writer.drain()
                            answer = await answered(reader)
                    except ConnectionError:
                        answer = b""
                    finally:
                        writer.close()
                        with contextlib.suppress(ConnectionError):
                            await writer.wait_closed()
                    for status in statuses_of(answer):
                        assert status != 500, (case, answer)
                        seen.add(status)
                    check_errors(answer)

            async with asyncio.TaskGroup() as tasks:
                for case in cases:
                    tasks.create_task(one(case))
            assert {200, 400, 404, 408, 415} <= seen
            base = f"http://127.0.0.1:{frontend.port}"
            async with session.get(f"{base}/health") as response:
                assert response.status == 200
            headers = {"content-type": "application/json"}
            async with session.post(
                f"{base}/v1/chat/completions", data=CHAT, headers=headers
            ) as response:
                assert response.status == 200
            assert frontend.in_flight == 0

    run(test(), timeout_s=120)


async def answered(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server closes, or has been silent after an answer."""
    data = b""
    while True:
        try:
            async with asyncio.timeout(0.5 if data else ANSWER_S):
                more = await reader.read(1 << 16)
        except TimeoutError:
            if data:
                return data
            raise
        except ConnectionError:
            return data
        if not more:
            return data
        data += more


def check_errors(answer: bytes) -> None:
    """Every refusal has a JSON body with an error in it."""
    for part in answer.split(b"HTTP/1.1 ")[1:]:
        head, _, body = part.partition(b"\r\n\r\n")
        if head[:1] != b"4" or b"content-length: 0" in head:
            continue
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(body) >= length:
            assert "error" in json.loads(body[:length]), answer
