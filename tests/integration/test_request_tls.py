"""The request plane with TLS: both ends, each end alone, and what is said when they disagree."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from muster.config.settings import RequestTlsSettings, Settings
from muster.discovery.memory import MemoryRegistry
from muster.errors import (
    CannotConnect,
    ConfigError,
    ConnectionTimeout,
    Disconnected,
    MusterError,
)
from muster.runtime import Client
from muster.testing.certificates import Certificate, CertificateAuthority
from muster.testing.loops import run
from muster.testing.runtimes import loopback_settings, runtime_in

Tls = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Papers:
    """Who is who, of one authority; and another one that nobody trusts."""

    ca: Path
    server: Certificate
    named: Certificate
    client: Certificate
    other_ca: Path
    other: Certificate

    @property
    def both(self) -> Tls:
        """What a process needs that listens and connects."""
        return self.listening(self.server) | {"ca": self.ca}

    def listening(self, shown: Certificate) -> Tls:
        return {"certificate": shown.path, "key": shown.key}

    def showing(self, shown: Certificate) -> Tls:
        return {"client_certificate": shown.path, "client_key": shown.key}


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    directory = tmp_path_factory.mktemp("certificates")
    ca, other = CertificateAuthority(directory), CertificateAuthority(directory, "other-ca")
    return Papers(
        ca=ca.path,
        server=ca.sign("server"),
        named=ca.sign("named", "DNS:worker.example"),
        client=ca.sign("client", "DNS:caller.example"),
        other_ca=other.path,
        other=other.sign("other"),
    )


async def count_to(request: Any) -> AsyncIterator[Any]:
    for number in range(request["n"]):
        yield {"number": number, "text": "x" * request.get("size", 0)}


def with_tls(tls: Tls, **plane: Any) -> Settings:
    settings = loopback_settings(**plane)
    return dataclasses.replace(settings, request_tls=RequestTlsSettings(**tls))


@contextlib.asynccontextmanager
async def connected(worker: Tls, caller: Tls, **plane: Any) -> AsyncIterator[Client]:
    """A worker, and a caller of it in what might be another process; gives its client."""
    registry = MemoryRegistry()
    async with (
        runtime_in(registry, with_tls(worker, **plane)) as serving,
        runtime_in(registry, with_tls(caller, **plane)) as calling,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(serving.endpoint("ns.comp.ep").serve_endpoint(count_to))
        client = await calling.endpoint("ns.comp.ep").client()
        await client.wait_for_instances(timeout=10)
        yield client
        await calling.close()
        await serving.close()


async def items_of(client: Client, request: Any) -> list[Any]:
    (instance_id,) = client.instance_ids()
    return [item async for item in await client.direct(request, instance_id, annotated=False)]


def failure(worker: Tls, caller: Tls, **plane: Any) -> MusterError:
    """How a request ends."""

    async def scenario() -> MusterError:
        async with connected(worker, caller, **plane) as client:
            with pytest.raises(MusterError) as caught:
                await items_of(client, {"n": 1})
            return caught.value

    return run(scenario())


async def check(client: Client) -> None:
    assert [item["number"] for item in await items_of(client, {"n": 3})] == [0, 1, 2]
    many = await asyncio.gather(*(items_of(client, {"n": n % 5}) for n in range(50)))
    assert [len(items) for items in many] == [n % 5 for n in range(50)]
    large = await items_of(client, {"n": 3, "size": 1 << 20})
    assert [len(item["text"]) for item in large] == [1 << 20] * 3


# -- what works --------------------------------------------------------------------------------


def test_requests_and_responses_travel_with_tls(papers: Papers) -> None:
    async def scenario() -> None:
        async with connected(papers.both, papers.both) as client:
            await check(client)

    run(scenario())


def test_both_ends_may_want_a_certificate_of_the_other(papers: Papers) -> None:
    mutual = papers.both | {"client_ca": papers.ca} | papers.showing(papers.client)

    async def scenario() -> None:
        async with connected(mutual, mutual) as client:
            await check(client)

    run(scenario())


def test_each_direction_decides_for_itself(papers: Papers) -> None:
    async def scenario() -> None:
        requests = connected(papers.listening(papers.server), {"ca": papers.ca})
        responses = connected({"ca": papers.ca}, papers.listening(papers.server))
        async with requests as client, responses as other:
            await check(client)
            await check(other)

    run(scenario())


def test_a_certificate_for_another_name_is_taken_if_that_name_is_expected(papers: Papers) -> None:
    named = papers.listening(papers.named) | {"ca": papers.ca}
    expecting = named | {"server_name": "worker.example"}

    async def scenario() -> None:
        async with connected(expecting, expecting) as client:
            await check(client)

    run(scenario())
    error = failure(expecting, papers.both)
    assert type(error) is CannotConnect
    assert "cannot connect with TLS to 127.0.0.1" in error.message
    assert "IP address mismatch" in error.message


def test_without_checking_any_certificate_will_do(papers: Papers) -> None:
    unknown = papers.listening(papers.other) | {"insecure": True}

    async def scenario() -> None:
        async with connected(unknown, unknown) as client:
            await check(client)

    run(scenario())


# -- what does not -----------------------------------------------------------------------------


def test_a_worker_of_another_authority_is_not_connected_to(papers: Papers) -> None:
    error = failure(papers.both, papers.both | {"ca": papers.other_ca})
    assert type(error) is CannotConnect
    assert "with TLS" in error.message
    assert "CERTIFICATE_VERIFY_FAILED" in error.message


@pytest.mark.parametrize("shown", ["none", "of another authority"])
def test_a_caller_without_the_certificate_that_is_wanted_is_told(
    papers: Papers, shown: str
) -> None:
    caller = papers.both if shown == "none" else papers.both | papers.showing(papers.other)
    error = failure(papers.both | {"client_ca": papers.ca}, caller)
    assert type(error) is CannotConnect
    assert "TLS" in error.message
    assert "DYN_TCP_TLS_CLIENT_CERT_PATH" in error.hint


def test_a_plain_caller_of_a_worker_with_tls_is_told(papers: Papers) -> None:
    error = failure(papers.both, {})
    assert type(error) is Disconnected  # it was connected, and a worker that dies looks the same
    assert "without TLS" in error.message
    assert "DYN_TCP_TLS_CA_CERT_PATH" in error.hint


def test_a_caller_with_tls_of_a_plain_worker_is_told_and_so_is_the_worker(
    papers: Papers, caplog: pytest.LogCaptureFixture
) -> None:
    error = failure({}, papers.both)
    assert type(error) is CannotConnect
    assert "cannot connect with TLS to 127.0.0.1" in error.message
    assert "a caller speaks TLS, this process does not" in caplog.text


@pytest.mark.parametrize(
    ("way", "hint"),
    [
        ("worker does not trust", "DYN_TCP_TLS_CA_CERT_PATH there"),
        ("worker has no certificate", "DYN_TCP_TLS_CA_CERT_PATH there"),
        ("worker connects plainly", "with TLS"),
        ("caller listens plainly", "DYN_TCP_TLS_CERT_PATH and"),
    ],
)
def test_a_connection_back_that_fails_is_an_error_in_time_that_names_tls(
    papers: Papers, way: str, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    worker, caller = papers.both, papers.both
    if way == "worker does not trust":
        worker = papers.both | {"ca": papers.other_ca}
    elif way == "worker has no certificate":
        caller = papers.both | {"client_ca": papers.ca}
    elif way == "worker connects plainly":
        worker = papers.listening(papers.server)
    else:
        caller = {"ca": papers.ca}
    error = failure(worker, caller, call_home_timeout_s=0.5)
    assert type(error) is ConnectionTimeout
    assert "did not connect back" in error.message
    assert hint in error.hint
    if way == "worker does not trust":
        assert "cannot connect back with TLS" in caplog.text
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    if way == "caller listens plainly":
        assert "a worker connected back with TLS; this process listens without" in caplog.text


class Scripted(asyncio.Protocol):
    """Listens, and answers whatever comes with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self._answer)


async def failure_at(answer: bytes, tls: Tls, **plane: Any) -> MusterError:
    """How a request ends at a listener that answers with ``answer``."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Scripted(answer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    record = (
        b'{"type":"Endpoint","namespace":"ns","component":"comp","endpoint":"ep","instance_id":1,'
        b'"transport":{"tcp":"127.0.0.1:%d/1/ns/comp/ep"}}' % port
    )
    async with runtime_in(MemoryRegistry(), with_tls(tls, **plane)) as runtime:
        await runtime.discovery.register("v1/instances", "ns/comp/ep/1", record)
        client = await runtime.endpoint("ns.comp.ep").client()
        await client.wait_for_instances(timeout=10)
        with pytest.raises(MusterError) as caught:
            await items_of(client, {})
    server.close()
    return caught.value


def test_a_handshake_that_nobody_answers_has_a_deadline(papers: Papers) -> None:
    error = run(failure_at(b"", papers.both | {"handshake_timeout_s": 0.2}))
    assert type(error) is CannotConnect
    assert "cannot connect with TLS to 127.0.0.1" in error.message
    error = run(failure_at(b"", papers.both, connect_timeout_s=0.2))
    assert type(error) is ConnectionTimeout
    assert "did not answer with TLS within 0.2 s" in error.message


def test_an_alert_in_answer_to_a_plain_request_is_known_for_what_it_is() -> None:
    error = run(failure_at(bytes.fromhex("15 03 03 00 02 02 0a"), {}))
    assert type(error) is CannotConnect
    assert "speaks TLS" in error.message
    assert "DYN_TCP_TLS_CA_CERT_PATH" in error.hint


def test_an_answer_that_is_no_tls_is_an_error_that_names_it(papers: Papers) -> None:
    error = run(failure_at(bytes(4), papers.both))
    assert type(error) is CannotConnect
    assert "cannot connect with TLS to 127.0.0.1" in error.message


def test_whoever_connects_and_says_nothing_is_let_go(papers: Papers) -> None:
    async def scenario() -> None:
        worker = papers.both | {"handshake_timeout_s": 0.2}
        async with connected(worker, papers.both) as client:
            authority = client.instances()[0].transport.address.partition("/")[0]
            host, _, port = authority.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            await check(client)

    run(scenario())


# -- certificates that cannot be used ----------------------------------------------------------


@pytest.mark.parametrize("field", ["certificate", "key", "client_certificate", "client_key"])
def test_half_a_pair_is_refused_with_the_names_of_both_settings(papers: Papers, field: str) -> None:
    tls: Tls = {"ca": papers.ca, field: papers.server.path}

    async def scenario() -> None:
        async with runtime_in(MemoryRegistry(), with_tls(tls)) as runtime:
            with pytest.raises(ConfigError, match="go together"):
                await runtime.endpoint("ns.comp.ep").client()

    run(scenario())


@pytest.mark.parametrize("field", ["certificate", "key", "ca", "client_ca"])
def test_a_file_that_is_missing_or_no_certificate_is_a_wrong_setting(
    papers: Papers, tmp_path: Path, field: str
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")

    async def scenario() -> None:
        for path in (empty, tmp_path / "missing.pem"):
            tls = papers.both | {field: path}
            async with runtime_in(MemoryRegistry(), with_tls(tls)) as runtime:
                with pytest.raises(ConfigError, match="cannot be used") as caught:
                    await runtime.endpoint("ns.comp.ep").serve_endpoint(count_to)
                assert "DYN_TCP_TLS_" in caught.value.hint

    run(scenario())


def test_a_key_is_never_written_to_the_log(
    papers: Papers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert failure(papers.both, {}).message
    secret = papers.server.key.read_text().splitlines()[1]
    assert secret not in caplog.text
