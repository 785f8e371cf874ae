"""What protects a frontend, over real sockets: keys, limits, other origins, the admin port, slow clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from muster.config.settings import GuardSettings
from muster.errors import ConfigError
from muster.frontend.guard.keys import key_line, new_key
from muster.frontend.server import Frontend
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids, write_tiny_model

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


def speaking(directory: Path) -> ScriptedModel:
    return ScriptedModel(
        directory,
        script=lambda _: ScriptedStream().push(*outputs(token_ids("ok"), "stop")).end(),
    )


class Keys:
    """A file of keys; each name has one."""

    def __init__(self, path: Path, **options: str) -> None:
        self.path = path
        self.of = {name: new_key() for name in options}
        self.write(**options)

    def write(self, **options: str) -> None:
        lines = [f"{key_line(name, self.of[name])} {text}\n" for name, text in options.items()]
        aside = self.path.with_suffix(".new")
        aside.write_text("".join(lines))
        aside.rename(self.path)

    def guard(self, **options: Any) -> GuardSettings:
        return GuardSettings(keys_file=self.path, reload_interval_s=0.01, **options)


@contextlib.asynccontextmanager
async def client_of(frontend: Frontend, key: str, **options: Any) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"http://127.0.0.1:{frontend.port}/v1",
        api_key=key,
        timeout=20,
        **{"max_retries": 0, **options},
    ) as client:
        yield client


def at(port: int, path: str) -> str:
    return f"http://127.0.0.1:{port}{path}"


def test_the_openai_client_is_let_in_with_a_key_and_not_without(
    model_directory: Path, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "keys", alice="")

    async def test() -> None:
        model = speaking(model_directory)
        async with running_frontend(model, guard=keys.guard()) as frontend:
            async with client_of(frontend, "mk-wrong") as client:
                with pytest.raises(openai.AuthenticationError) as caught:
                    await client.chat.completions.create(**CHAT)
                assert caught.value.code == "invalid_api_key"
                assert caught.value.response.headers["www-authenticate"] == "Bearer"
                assert caught.value.response.headers["x-request-id"]
            assert model.requests == []
            async with client_of(frontend, keys.of["alice"]) as client:
                reply = await client.chat.completions.create(**CHAT)
                assert reply.choices[0].message.content == "ok"
                assert [one.id async for one in client.models.list()] == ["tiny"]

    run(test())


def test_probes_and_metrics_are_open_and_name_holders_but_no_keys(
    model_directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Keys(tmp_path / "keys", alice="", ops="admin")
    caplog.set_level("DEBUG", "muster")

    async def test() -> None:
        guard = keys.guard()
        async with (
            running_frontend(speaking(model_directory), guard=guard) as frontend,
            aiohttp.ClientSession() as session,
        ):

            async def status(path: str, **headers: str) -> int:
                url = at(frontend.port, path)
                async with session.get(url, headers=headers) as answer:
                    return answer.status

            assert [await status(path) for path in ("/health", "/live", "/metrics")] == [200] * 3
            assert await status("/v1/models") == 401
            assert await status("/nowhere") == 401
            assert await status("/v1/models", **{"x-api-key": keys.of["alice"]}) == 200
            assert await status("/nowhere", **{"x-api-key": keys.of["alice"]}) == 404
            assert await status("/v1/muster/models", **{"x-api-key": keys.of["alice"]}) == 403
            assert await status("/v1/muster/models", **{"x-api-key": keys.of["ops"]}) == 200
            async with session.get(at(frontend.port, "/metrics")) as answer:
                text = await answer.text()
        assert 'muster_key_requests_total{key="alice",outcome="admitted"}' in text
        assert 'muster_unauthenticated_requests_total{reason="missing_api_key"} 2.0' in text
        assert "muster_keys 2.0" in text
        for key in keys.of.values():
            assert key not in text
            assert key not in caplog.text

    run(test())


def test_a_key_that_is_added_or_taken_away_counts_without_a_restart(
    model_directory: Path, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "keys", alice="", bob="")
    keys.write(alice="")

    async def test() -> None:
        async with (
            running_frontend(speaking(model_directory), guard=keys.guard()) as frontend,
            client_of(frontend, keys.of["alice"]) as alice,
            client_of(frontend, keys.of["bob"]) as bob,
        ):
            assert await allowed(alice)
            assert not await allowed(bob)
            keys.write(bob="")
            async with asyncio.timeout(20):
                while not await allowed(bob):  # noqa: ASYNC110 - we can only ask
                    await asyncio.sleep(0.01)
            assert not await allowed(alice)

    async def allowed(client: AsyncOpenAI) -> bool:
        try:
            await client.models.list()
        except openai.AuthenticationError:
            return False
        return True

    run(test())


def test_a_frontend_does_not_start_without_its_file_of_keys(
    model_directory: Path, tmp_path: Path
) -> None:
    async def test() -> None:
        guard = GuardSettings(keys_file=tmp_path / "none")
        with pytest.raises(ConfigError, match="cannot be read"):
            async with running_frontend(speaking(model_directory), guard=guard):
                pass

    run(test())


def test_the_openai_client_waits_for_its_rate_and_succeeds(
    model_directory: Path, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "keys", alice="requests_per_minute=600", bob="requests_per_minute=2")

    async def test() -> None:
        guard = keys.guard()
        async with running_frontend(speaking(model_directory), guard=guard) as frontend:
            async with client_of(frontend, keys.of["bob"]) as bob:
                raw = await bob.chat.completions.with_raw_response.create(**CHAT)
                assert raw.headers["x-ratelimit-limit-requests"] == "2"
                assert raw.headers["x-ratelimit-remaining-requests"] == "1"
                assert raw.headers["x-ratelimit-reset-requests"].endswith("s")
                await bob.chat.completions.create(**CHAT)
                with pytest.raises(openai.RateLimitError) as caught:
                    await bob.chat.completions.create(**CHAT)
                assert caught.value.code == "rate_limit_exceeded"
                assert caught.value.type == "rate_limit_error"
                assert 25 <= int(caught.value.response.headers["retry-after"]) <= 30
            async with client_of(frontend, keys.of["alice"], max_retries=5) as alice:
                # A burst of 600, then one every 0.1 s: the last ones come by the client's retries.
                replies = await asyncio.gather(
                    *(alice.completions.create(model="tiny", prompt="a") for _ in range(603))
                )
                assert len(replies) == 603

    run(test())


def test_requests_at_a_time_are_counted_until_their_stream_ends(
    model_directory: Path, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "keys", alice="concurrent=1 tokens_per_minute=1000")

    async def test() -> None:
        model = ScriptedModel(model_directory)
        async with (
            running_frontend(model, guard=keys.guard()) as frontend,
            client_of(frontend, keys.of["alice"]) as client,
        ):
            stream = await client.chat.completions.create(**CHAT, stream=True)
            engine = await model.next_stream()
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(**CHAT)
            assert caught.value.code == "concurrency_limit_exceeded"
            engine.push(*outputs(token_ids("ok"), "stop")).end()
            assert [chunk async for chunk in stream]
            left = await client.chat.completions.create(**CHAT, stream=True)
            await model.next_stream()
            await left.close()  # a client that leaves gives its place back
            async with asyncio.timeout(20):
                while not await allowed(client):  # noqa: ASYNC110 - we can only ask
                    await asyncio.sleep(0.01)
            async with (
                aiohttp.ClientSession() as session,
                session.get(at(frontend.port, "/metrics")) as answer,
            ):
                text = await answer.text()
            # The first answer and the prompt of the one that was left are paid for.
            used = len("ok") + 2 * len(model.requests[0].token_ids)
            assert f'muster_key_tokens_total{{key="alice"}} {used:.1f}' in text

    async def allowed(client: AsyncOpenAI) -> bool:
        try:
            raw = await client.chat.completions.with_raw_response.create(**CHAT, stream=True)
        except openai.RateLimitError:
            return False
        assert int(raw.headers["x-ratelimit-remaining-tokens"]) <= 1000
        return True

    run(test())


def test_pages_of_listed_origins_may_call_and_nothing_is_said_by_default(
    model_directory: Path, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "keys", alice="")

    async def test(guard: GuardSettings | None, origin: str) -> list[tuple[int, str | None]]:
        async with (
            running_frontend(speaking(model_directory), guard=guard) as frontend,
            aiohttp.ClientSession() as session,
        ):
            url = at(frontend.port, "/v1/chat/completions")
            asked = {"origin": origin, "access-control-request-method": "POST"}
            seen = []
            async with session.options(url, headers=asked) as answer:
                seen.append((answer.status, answer.headers.get("access-control-allow-origin")))
            own = {"origin": origin, "authorization": f"Bearer {keys.of['alice']}"}
            async with session.post(url, json=CHAT, headers=own) as answer:
                seen.append((answer.status, answer.headers.get("access-control-allow-origin")))
            async with session.post(url, json=CHAT, headers={"origin": origin}) as answer:
                seen.append((answer.status, answer.headers.get("access-control-allow-origin")))
            return seen

    page = "https://chat.example"
    guard = keys.guard(cors_origins=(page,))
    # A page must be able to read why it was turned away, too.
    assert run(test(guard, page)) == [(200, page), (200, page), (401, page)]
    assert run(test(guard, "https://evil.example")) == [(200, None), (200, None), (401, None)]
    assert run(test(None, page)) == [(405, None), (200, None), (200, None)]


def test_admin_routes_can_have_their_own_port(model_directory: Path, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys", alice="", ops="admin")

    async def test() -> None:
        guard = keys.guard(admin_port=0)
        async with (
            running_frontend(speaking(model_directory), guard=guard) as frontend,
            aiohttp.ClientSession(headers={"x-api-key": keys.of["ops"]}) as session,
        ):

            async def status(port: int, path: str) -> int:
                async with session.get(at(port, path)) as answer:
                    return answer.status

            assert frontend.admin_port not in (0, frontend.port)
            for path, own, admin in (
                ("/v1/muster/models", 404, 200),
                ("/v1/models", 200, 404),
                ("/health", 200, 200),
                ("/metrics", 200, 200),
            ):
                assert await status(frontend.port, path) == own
                assert await status(frontend.admin_port, path) == admin
        async with (
            running_frontend(speaking(model_directory), guard=guard) as frontend,
            aiohttp.ClientSession() as session,
            session.get(at(frontend.admin_port, "/v1/muster/models")) as answer,
        ):
            assert answer.status == 200  # on a loopback address no key is asked for
        assert frontend.admin_port == 0

    run(test())


def test_an_admin_port_others_can_reach_asks_for_a_key(
    model_directory: Path, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "keys", ops="admin")

    async def test() -> None:
        guard = keys.guard(admin_port=0, admin_host="0.0.0.0")
        async with (
            running_frontend(speaking(model_directory), guard=guard) as frontend,
            aiohttp.ClientSession() as session,
        ):
            url = at(frontend.admin_port, "/v1/muster/models")
            async with session.get(url) as answer:
                assert answer.status == 401
            own = {"authorization": f"Bearer {keys.of['ops']}"}
            async with session.get(url, headers=own) as answer:
                assert answer.status == 200

    run(test())


def test_a_client_that_never_reads_is_cut_off_and_its_engine_stopped(
    model_directory: Path,
) -> None:
    """A script without end: were nothing holding it back, it would fill all memory."""
    pushed = 0

    class Endless(ScriptedStream):
        async def batch(self) -> Any:
            nonlocal pushed
            await asyncio.sleep(0)
            if self.killed.is_set():
                return ()
            pushed += 1
            return outputs(token_ids("x" * 400))

    streams: list[Endless] = []

    def script(_: object) -> ScriptedStream:
        streams.append(Endless())
        return streams[-1]

    async def test() -> None:
        guard = GuardSettings(write_timeout_s=0.3)
        model = ScriptedModel(model_directory, script=script, context_length=1 << 30)
        async with running_frontend(model, guard=guard) as frontend:
            reader, writer = await asyncio.open_connection("127.0.0.1", frontend.port, limit=1)
            body = json.dumps({**CHAT, "stream": True, "max_tokens": 1 << 29}).encode()
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
            await writer.drain()
            transport = writer.transport
            assert isinstance(transport, asyncio.ReadTransport)
            async with asyncio.timeout(20):
                while not streams:  # noqa: ASYNC110 - the script tells nobody else
                    await asyncio.sleep(0.01)
                await streams[0].killed.wait()
                while frontend.in_flight:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
            # What the kernel and two buffers of 64 KiB take, and not the seconds' worth of a
            # stream that makes hundreds of megabytes a second.
            assert pushed * 400 < 64 << 20
            del reader
            writer.close()

    run(test())


def test_nothing_large_is_read_of_those_who_have_no_key(
    model_directory: Path, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "keys", alice="")
    size = 20 << 20

    async def post(frontend: Frontend, key: str) -> tuple[bytes, int]:
        """The status line, and how much of the body was taken before it came."""
        reader, writer = await asyncio.open_connection("127.0.0.1", frontend.port)
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"x-api-key: %b\r\ncontent-length: %d\r\n\r\n" % (key.encode(), size)
        )
        answer = asyncio.create_task(reader.readline())
        sent = 0
        async with asyncio.timeout(20):
            while sent < 1 << 20 and not answer.done():
                writer.write(b" " * (64 << 10))
                sent += 64 << 10
                await asyncio.sleep(0.01)
            if key == "mk-wrong":
                await answer
            status = answer.result() if answer.done() else b""
        answer.cancel()
        writer.transport.abort()
        return status, sent

    async def test() -> None:
        async with running_frontend(speaking(model_directory), guard=keys.guard()) as frontend:
            status, sent = await post(frontend, "mk-wrong")
            assert status.startswith(b"HTTP/1.1 401 ")
            assert sent < size
            assert await post(frontend, keys.of["alice"]) == (b"", 1 << 20)

    run(test())


def test_a_body_that_trickles_in_is_refused(model_directory: Path) -> None:
    async def test() -> None:
        guard = GuardSettings(request_timeout_s=0.3, body_bytes_per_s=1000)
        async with running_frontend(speaking(model_directory), guard=guard) as frontend:
            reader, writer = await asyncio.open_connection("127.0.0.1", frontend.port)
            writer.write(
                b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n"
            )
            answer = asyncio.create_task(reader.read())
            async with asyncio.timeout(20):
                while not answer.done():  # never silent for long, and never done
                    writer.write(b" ")
                    await asyncio.sleep(0.02)
            assert answer.result().startswith(b"HTTP/1.1 408 ")
            assert b'"request_timeout"' in answer.result()
            writer.close()

    with contextlib.suppress(ConnectionError):
        run(test())


def test_a_field_nobody_knows_is_ignored_unless_parameters_are_strict(
    model_directory: Path,
) -> None:
    async def test(guard: GuardSettings) -> tuple[int, Any]:
        async with (
            running_frontend(speaking(model_directory), guard=guard) as frontend,
            aiohttp.ClientSession() as session,
            session.post(
                at(frontend.port, "/v1/chat/completions"), json={**CHAT, "temprature": 1}
            ) as answer,
        ):
            return answer.status, (await answer.json()).get("error")

    assert run(test(GuardSettings()))[0] == 200
    status, error = run(test(GuardSettings(strict_parameters=True)))
    assert status == 400
    assert error["param"] == "temprature"
    assert error["code"] == "unknown_parameter"


def test_the_messages_api_says_it_in_its_own_words(model_directory: Path, tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys", alice="requests_per_minute=1")
    body = {"model": "tiny", "max_tokens": 5, "messages": CHAT["messages"]}

    async def test() -> list[tuple[int, str, str]]:
        async with (
            running_frontend(speaking(model_directory), guard=keys.guard()) as frontend,
            aiohttp.ClientSession() as session,
        ):
            seen = []
            for key in ("mk-wrong", keys.of["alice"], keys.of["alice"]):
                url = at(frontend.port, "/v1/messages")
                async with session.post(url, json=body, headers={"x-api-key": key}) as answer:
                    reply = await answer.json()
                    seen.append(
                        (answer.status, reply["type"], reply.get("error", {}).get("type", ""))
                    )
            return seen

    assert run(test()) == [
        (401, "error", "authentication_error"),
        (200, "message", ""),
        (429, "error", "rate_limit_error"),
    ]
