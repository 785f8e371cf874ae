"""TLS on the request plane with a real Dynamo at the other end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from muster.config.settings import Settings
from muster.errors import CannotConnect, ConnectionTimeout, MusterError
from muster.runtime import Client, DistributedRuntime
from muster.testing.certificates import CertificateAuthority
from muster.testing.loops import run
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

HANDLER = """
async def handler(request, context):
    for number in range(request["n"]):
        yield {"number": number, "text": "x" * request.get("size", 0)}
"""

DYNAMO_WORKER = f"""
import uvloop
from dynamo.runtime import dynamo_worker
{HANDLER}
@dynamo_worker()
async def main(runtime):
    await runtime.endpoint("interop.echo.generate").serve_endpoint(handler)
uvloop.run(main())
"""

MUSTER_WORKER = f"""
import uvloop
from muster.runtime import DistributedRuntime
{HANDLER}
async def main():
    async with DistributedRuntime() as runtime:
        await runtime.endpoint("interop.echo.generate").serve_endpoint(handler)
uvloop.run(main())
"""

DYNAMO_CLIENT = """
import asyncio, json, uvloop
from dynamo.runtime import dynamo_worker

@dynamo_worker()
async def main(runtime):
    client = await runtime.endpoint("interop.echo.generate").client()
    await client.wait_for_instances()
    async def items(request):
        return [item.data() async for item in await client.round_robin(request)]
    try:
        many = await asyncio.gather(*(items({"n": n % 5}) for n in range(50)))
        found = {
            "numbers": [item["number"] for item in await items({"n": 1000})],
            "many": [len(each) for each in many],
            "large": [len(item["text"]) for item in await items({"n": 3, "size": 1 << 20})],
        }
    except Exception as error:
        found = {"failure": str(error)}
    print(json.dumps(found), flush=True)
    runtime.shutdown()
uvloop.run(main())
"""

RIGHT = {
    "numbers": [*range(1000)],
    "many": [n % 5 for n in range(50)],
    "large": [1 << 20] * 3,
}

Environment = dict[str, str]


@pytest.fixture
def tls(tmp_path: Path) -> Environment:
    """What every process has that both listens and connects."""
    return papers_of(tmp_path, "ca")


@pytest.fixture
def stranger(tmp_path: Path) -> Environment:
    """The same, of an authority nobody else knows."""
    return papers_of(tmp_path, "other")


def papers_of(directory: Path, name: str) -> Environment:
    ca = CertificateAuthority(directory, name)
    server = ca.sign(f"{name}-server")
    return {
        "DYN_TCP_TLS_CERT_PATH": str(server.path),
        "DYN_TCP_TLS_KEY_PATH": str(server.key),
        "DYN_TCP_TLS_CA_CERT_PATH": str(ca.path),
    }


def mutual(tls: Environment) -> Environment:
    """With a certificate of whoever connects, too."""
    return tls | {
        "DYN_TCP_TLS_CLIENT_CA_CERT_PATH": tls["DYN_TCP_TLS_CA_CERT_PATH"],
        "DYN_TCP_TLS_CLIENT_CERT_PATH": tls["DYN_TCP_TLS_CERT_PATH"],
        "DYN_TCP_TLS_CLIENT_KEY_PATH": tls["DYN_TCP_TLS_KEY_PATH"],
    }


def dynamo_finds(site: Site, tls: Environment) -> Any:
    """What a Dynamo client gets."""
    wait_until(lambda: site.records("v1/instances"), "endpoint registered")
    client = site.dynamo_script(DYNAMO_CLIENT, role="client", **tls)
    client.wait(60)
    return json.loads(next(line for line in client.text().splitlines() if line.startswith("{")))


def with_client(
    site: Site, tls: Environment, scenario: Callable[[Client], Awaitable[Any]], **more: str
) -> Any:
    """What ``scenario`` finds with a Muster client."""
    environ = {"DYN_FILE_KV": str(site.registry), "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1"}
    settings = Settings.load(environ=environ | tls | more)

    async def main() -> Any:
        async with DistributedRuntime(settings=settings, handle_signals=False) as runtime:
            client = await runtime.endpoint("interop.echo.generate").client()
            await client.wait_for_instances(timeout=30)
            return await scenario(client)

    return run(main(), timeout_s=60)


async def items_of(client: Client, request: Any) -> list[Any]:
    (instance_id,) = client.instance_ids()
    return [item async for item in await client.direct(request, instance_id, annotated=False)]


async def muster_finds(client: Client) -> Any:
    many = await asyncio.gather(*(items_of(client, {"n": n % 5}) for n in range(50)))
    return {
        "numbers": [item["number"] for item in await items_of(client, {"n": 1000})],
        "many": [len(each) for each in many],
        "large": [len(item["text"]) for item in await items_of(client, {"n": 3, "size": 1 << 20})],
    }


async def failure_of(client: Client) -> MusterError:
    with pytest.raises(MusterError) as caught:
        await items_of(client, {"n": 1})
    return caught.value


@pytest.mark.parametrize("both_show", [False, True])
def test_a_dynamo_client_drives_a_muster_endpoint_with_tls(
    site: Site, tls: Environment, both_show: bool
) -> None:
    tls = mutual(tls) if both_show else tls
    site.script(MUSTER_WORKER, role="worker", **tls)
    assert dynamo_finds(site, tls) == RIGHT


@pytest.mark.parametrize("both_show", [False, True])
def test_a_muster_client_drives_a_dynamo_endpoint_with_tls(
    site: Site, tls: Environment, both_show: bool
) -> None:
    tls = mutual(tls) if both_show else tls
    site.dynamo_script(DYNAMO_WORKER, role="worker", **tls)
    assert with_client(site, tls, muster_finds) == RIGHT


def test_a_dynamo_worker_of_another_authority_is_not_connected_to(
    site: Site, tls: Environment, stranger: Environment
) -> None:
    site.dynamo_script(DYNAMO_WORKER, role="worker", **stranger)
    error = with_client(site, tls, failure_of)
    assert type(error) is CannotConnect
    assert "with TLS" in error.message
    assert "CERTIFICATE_VERIFY_FAILED" in error.message


def test_a_dynamo_worker_with_tls_is_not_asked_plainly_in_silence(
    site: Site, tls: Environment
) -> None:
    site.dynamo_script(DYNAMO_WORKER, role="worker", **tls)
    error = with_client(site, {}, failure_of)
    assert type(error) is CannotConnect
    assert "TLS" in error.message
    assert "DYN_TCP_TLS_CA_CERT_PATH" in error.hint


def test_a_plain_dynamo_worker_is_not_asked_with_tls_in_silence(
    site: Site, tls: Environment
) -> None:
    site.dynamo_script(DYNAMO_WORKER, role="worker")
    error = with_client(site, tls, failure_of, DYN_TCP_TLS_HANDSHAKE_TIMEOUT_SECS="1")
    assert type(error) is CannotConnect
    assert "cannot connect with TLS" in error.message


def test_a_dynamo_worker_that_wants_a_certificate_is_understood(
    site: Site, tls: Environment
) -> None:
    site.dynamo_script(DYNAMO_WORKER, role="worker", **mutual(tls))
    error = with_client(site, tls, failure_of)
    assert type(error) is CannotConnect
    assert "TLS" in error.message
    assert "DYN_TCP_TLS_CLIENT_CERT_PATH" in error.hint


def test_a_dynamo_worker_that_does_not_trust_us_does_not_connect_back(
    site: Site, tls: Environment, stranger: Environment
) -> None:
    trusting_others = tls | {"DYN_TCP_TLS_CA_CERT_PATH": stranger["DYN_TCP_TLS_CA_CERT_PATH"]}
    site.dynamo_script(DYNAMO_WORKER, role="worker", **trusting_others)
    error = with_client(site, tls, failure_of, MUSTER_CALL_HOME_TIMEOUT_SECS="2")
    assert type(error) is ConnectionTimeout
    assert "trust our certificate" in error.hint


@pytest.mark.parametrize("which", ["worker", "client"])
def test_a_dynamo_client_and_a_muster_worker_that_disagree_do_not_wait_for_ever(
    site: Site, tls: Environment, which: str
) -> None:
    site.script(MUSTER_WORKER, role="worker", **(tls if which == "worker" else {}))
    found = dynamo_finds(site, tls if which == "client" else {})
    assert "failure" in found
