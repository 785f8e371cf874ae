"""A frontend that speaks TLS, and exchanges its certificates while it runs."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from pathlib import Path

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from muster.config.settings import GuardSettings
from muster.errors import ConfigError
from muster.frontend.server import Frontend
from muster.testing.certificates import Certificate, CertificateAuthority
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids, write_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    return ScriptedModel(
        write_tiny_model(tmp_path_factory.mktemp("tiny")),
        script=lambda _: ScriptedStream().push(*outputs(token_ids("ok"), "stop")).end(),
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority: CertificateAuthority) -> Certificate:
    return authority.sign("server")


def trusting(authority: CertificateAuthority, shown: Certificate | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.path)
    if shown is not None:
        context.load_cert_chain(shown.path, shown.key)
    return context


async def serial_of(frontend: Frontend, context: ssl.SSLContext) -> str:
    """The serial number of the certificate a new connection is shown, after a request on it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", frontend.port, ssl=context)
    try:
        writer.write(b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(answer[:50])
        return str(writer.get_extra_info("peercert")["serialNumber"])
    finally:
        writer.transport.abort()


async def serial_or_none(frontend: Frontend, context: ssl.SSLContext) -> str | None:
    try:
        return await serial_of(frontend, context)
    except (ssl.SSLError, ConnectionError):
        return None


def test_the_openai_client_over_tls(
    model: ScriptedModel, authority: CertificateAuthority, server: Certificate
) -> None:
    async def test() -> None:
        guard = GuardSettings(tls_certificate=server.path, tls_key=server.key)
        async with (
            running_frontend(model, guard=guard) as frontend,
            AsyncOpenAI(
                base_url=f"https://127.0.0.1:{frontend.port}/v1",
                api_key="none",
                timeout=20,
                max_retries=0,
                http_client=DefaultAsyncHttpxClient(verify=trusting(authority)),
            ) as client,
        ):
            stream = await client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "hi"}], stream=True
            )
            text = "".join([part.choices[0].delta.content or "" async for part in stream])
            assert text == "ok"

    run(test())


def test_nothing_older_than_tls_1_2_and_nothing_without_tls(
    model: ScriptedModel, authority: CertificateAuthority, server: Certificate
) -> None:
    async def test() -> None:
        guard = GuardSettings(tls_certificate=server.path, tls_key=server.key)
        async with running_frontend(model, guard=guard) as frontend:
            old = trusting(authority)
            old.set_ciphers("DEFAULT:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.minimum_version = ssl.TLSVersion.TLSv1_1
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            assert await serial_or_none(frontend, old) is None
            new = trusting(authority)
            new.maximum_version = ssl.TLSVersion.TLSv1_2
            assert await serial_of(frontend, new)
            reader, writer = await asyncio.open_connection("127.0.0.1", frontend.port)
            writer.write(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b"HTTP" not in await reader.read()
            writer.close()

    run(test())


def test_a_client_without_a_certificate_of_the_authority_gets_nowhere(
    model: ScriptedModel,
    authority: CertificateAuthority,
    server: Certificate,
    tmp_path: Path,
) -> None:
    async def test() -> None:
        clients, others = CertificateAuthority(tmp_path, "clients"), CertificateAuthority(tmp_path)
        guard = GuardSettings(
            tls_certificate=server.path, tls_key=server.key, tls_client_ca=clients.path
        )
        async with running_frontend(model, guard=guard) as frontend:
            assert await serial_of(frontend, trusting(authority, clients.sign("alice")))
            for shown in (None, others.sign("mallory")):
                assert await serial_or_none(frontend, trusting(authority, shown)) is None

    run(test())


def test_new_certificates_and_authorities_count_without_a_restart(
    model: ScriptedModel, authority: CertificateAuthority, server: Certificate, tmp_path: Path
) -> None:
    """A connection that is there stays; a certificate without its key changes nothing."""

    async def test() -> None:
        old, new = CertificateAuthority(tmp_path, "old"), CertificateAuthority(tmp_path, "new")
        alice, bob = old.sign("alice"), new.sign("bob")
        paths = [tmp_path / name for name in ("tls.pem", "tls.key", "clients.pem")]
        for source, path in zip((server.path, server.key, old.path), paths, strict=True):
            shutil.copy(source, path)
        guard = GuardSettings(
            tls_certificate=paths[0],
            tls_key=paths[1],
            tls_client_ca=paths[2],
            reload_interval_s=0.01,
        )
        async with running_frontend(model, guard=guard) as frontend:
            first = await serial_of(frontend, trusting(authority, alice))
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", frontend.port, ssl=trusting(authority, alice)
            )
            later = authority.sign("later")
            shutil.copy(later.path, paths[0])
            await asyncio.sleep(0.1)
            assert await serial_of(frontend, trusting(authority, alice)) == first
            shutil.copy(later.key, paths[1])
            shutil.copy(new.path, paths[2])
            async with asyncio.timeout(20):
                # Only a new connection can tell.
                while await serial_or_none(  # noqa: ASYNC110
                    frontend, trusting(authority, bob)
                ) in (None, first):
                    await asyncio.sleep(0.02)
            assert await serial_or_none(frontend, trusting(authority, alice)) is None
            writer.write(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
            writer.transport.abort()

    run(test())


@pytest.mark.parametrize("missing", ["certificate", "key", "both", "garbage"])
def test_a_frontend_does_not_start_without_a_certificate_and_its_key(
    model: ScriptedModel, server: Certificate, tmp_path: Path, missing: str
) -> None:
    (tmp_path / "garbage").write_text("no certificate")
    given = {
        "certificate": GuardSettings(tls_key=server.key),
        "key": GuardSettings(tls_certificate=server.path),
        "both": GuardSettings(tls_client_ca=server.path),
        "garbage": GuardSettings(tls_certificate=tmp_path / "garbage", tls_key=server.key),
    }

    async def test() -> None:
        with pytest.raises(ConfigError, match="certificate"):
            async with running_frontend(model, guard=given[missing]):
                pass

    run(test())
