"""What becomes of the registry's users when a real etcd hangs, dies, forgets or moves."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.config.settings import EtcdSettings
from muster.discovery.base import Watch
from muster.discovery.etcd.registry import EtcdDiscovery
from muster.discovery.records import INSTANCES
from muster.errors import ConfigError, ConflictError, DiscoveryError
from muster.testing.etcd_server import EtcdServer
from muster.testing.ports import free_port

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not EtcdServer.is_installed(), reason="there is no etcd on this machine"),
]


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path) as server:
        yield server


def settings_of(*urls: str, ttl_s: int = 2, **more: Any) -> EtcdSettings:
    more = {"request_timeout_s": 1.0, "startup_timeout_s": 0.2} | more
    return EtcdSettings(endpoints=urls, lease_ttl_s=ttl_s, **more)


def run(work: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(90):
            await work

    asyncio.run(limited())


@contextlib.asynccontextmanager
async def processes(settings: EtcdSettings, count: int) -> AsyncIterator[list[EtcdDiscovery]]:
    opened = [EtcdDiscovery(settings) for _ in range(count)]
    try:
        yield opened
    finally:
        for discovery in opened:
            await discovery.close()


async def until(check: Callable[[], Any]) -> None:
    while not check():  # noqa: ASYNC110 - the registry's thread has no event for us
        await asyncio.sleep(0.02)


async def listed(discovery: EtcdDiscovery, expected: dict[str, bytes]) -> None:
    """Wait until the registry holds exactly this."""
    while True:
        with contextlib.suppress(DiscoveryError):
            if await discovery.list(INSTANCES) == expected:
                return
        await asyncio.sleep(0.05)


class Seen:
    """What a reader of a watch has been told."""

    def __init__(self, watch: Watch) -> None:
        self.records = dict(watch.snapshot)
        self.removals = 0
        self._watch = watch

    async def follow(self) -> None:
        async for change in self._watch:
            if change.value is None:
                self.removals += 1
                del self.records[change.key]
            else:
                self.records[change.key] = change.value


@contextlib.asynccontextmanager
async def following(discovery: EtcdDiscovery) -> AsyncIterator[Seen]:
    async with discovery.watch(INSTANCES) as watch, asyncio.TaskGroup() as group:
        seen = Seen(watch)
        task = group.create_task(seen.follow())
        yield seen
        task.cancel()


def test_keys_are_raw_and_live_by_a_lease_with_the_instance_s_id(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with processes(settings_of(etcd.url), 1) as (worker,):
            await worker.register(INSTANCES, "ns/c/e/1f", b"{}")
            reply = etcd.call("kv/range", {"key": encoded("v1/instances/ns/c/e/1f")})
            assert int(reply["kvs"][0]["lease"]) == worker.instance_id
            assert 0 < worker.instance_id < 1 << 63

    run(body())


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_server_that_hangs_ends_nothing_and_the_last_known_stays(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with processes(settings_of(etcd.url), 2) as (worker, frontend):
            await worker.register(INSTANCES, "w", b"1")
            async with following(frontend) as seen:
                assert frontend.staleness() is None
                etcd.pause()
                await until(frontend.staleness)
                await until(worker.staleness)
                stale = frontend.staleness()
                assert stale is not None
                assert "did not answer" in stale.reason
                with pytest.raises(DiscoveryError, match="cannot be reached"):
                    await frontend.list(INSTANCES)
                await asyncio.sleep(3)  # beyond the time to live
                assert seen.records == {"w": b"1"}
                etcd.resume()
                await until(lambda: frontend.staleness() is None)
                await listed(frontend, {"w": b"1"})
                await worker.register(INSTANCES, "x", b"2")
                await until(lambda: "x" in seen.records)
                assert seen.records == {"w": b"1", "x": b"2"}
                assert seen.removals == 0

    run(body())


def test_a_wiped_server_gets_every_record_again_under_the_same_identity(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with processes(settings_of(etcd.url), 3) as (one, two, frontend):
            await one.register(INSTANCES, "a", b"1")
            await two.register(INSTANCES, "b", b"2")
            gone = EtcdDiscovery(settings_of(etcd.url))
            await gone.register(INSTANCES, "c", b"3")
            async with following(frontend) as seen:
                etcd.wipe()
                gone.abandon()
                await until(frontend.staleness)
                assert seen.records == {"a": b"1", "b": b"2", "c": b"3"}
                etcd.start()
                await listed(frontend, {"a": b"1", "b": b"2"})
                reply = etcd.call("kv/range", {"key": encoded("v1/instances/a")})
                assert int(reply["kvs"][0]["lease"]) == one.instance_id
                # What did not come back is forgotten; the rest was never missed.
                await until(lambda: "c" not in seen.records)
                assert seen.records == {"a": b"1", "b": b"2"}
                assert seen.removals == 1
                await two.deregister(INSTANCES, "b")
                await until(lambda: "b" not in seen.records)

    run(body())


def test_a_lease_revoked_by_somebody_else_comes_back(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with processes(settings_of(etcd.url), 2) as (worker, frontend):
            await worker.register(INSTANCES, "w", b"1")
            etcd.call("lease/revoke", {"ID": str(worker.instance_id)})
            await listed(frontend, {"w": b"1"})
            reply = etcd.call("kv/range", {"key": encoded("v1/instances/w")})
            assert int(reply["kvs"][0]["lease"]) == worker.instance_id
            await worker.register(INSTANCES, "x", b"2")
            etcd.call("lease/revoke", {"ID": str(worker.instance_id)})
            await worker.register(INSTANCES, "y", b"3")  # finds out by itself
            await listed(frontend, {"w": b"1", "x": b"2", "y": b"3"})

    run(body())


def test_a_record_removed_or_replaced_behind_our_back(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with processes(settings_of(etcd.url), 2) as (one, two):
            await one.register(INSTANCES, "a", b"1")
            etcd.call("kv/deleterange", {"key": encoded("v1/instances/a")})
            await listed(two, {"a": b"1"})
            await two.register(INSTANCES, "a", b"2")
            await asyncio.sleep(1.5)  # some keep-alives of the first one
            assert await one.list(INSTANCES) == {"a": b"2"}
            await two.deregister(INSTANCES, "a")
            await listed(two, {"a": b"1"})
            etcd.call(
                "kv/put",
                {
                    "key": encoded("v1/instances/zombie"),
                    "value": encoded("x"),
                    "lease": str(one.instance_id),
                },
            )
            await listed(two, {"a": b"1"})

    run(body())


def test_a_create_that_was_done_by_an_answer_that_got_lost_is_no_conflict(
    etcd: EtcdServer,
) -> None:
    async def body() -> None:
        async with processes(settings_of(etcd.url), 2) as (one, two):
            await one.register(INSTANCES, "a", b"1")
            done = {"key": encoded("v1/instances/b"), "value": encoded("2")}
            etcd.call("kv/put", done | {"lease": str(one.instance_id)})
            await one.register(INSTANCES, "b", b"2", create=True)
            for process in (one, two):
                with pytest.raises(ConflictError):
                    await process.register(INSTANCES, "b", b"2", create=True)

    run(body())


def test_a_watch_goes_on_after_a_compaction_it_missed(etcd: EtcdServer) -> None:
    async def body() -> None:
        async with processes(settings_of(etcd.url, ttl_s=30), 2) as (worker, frontend):
            await worker.register(INSTANCES, "w", b"1")
            async with following(frontend) as seen:
                etcd.kill()
                await until(frontend.staleness)
                etcd.start()
                for number in range(20):
                    etcd.call("kv/put", {"key": encoded("other"), "value": encoded(str(number))})
                revision = etcd.call("maintenance/status", {})["header"]["revision"]
                etcd.call("kv/compaction", {"revision": revision, "physical": True})
                await until(lambda: frontend.staleness() is None)
                await worker.register(INSTANCES, "x", b"2")
                await until(lambda: "x" in seen.records)
                assert seen.records == {"w": b"1", "x": b"2"}
                assert seen.removals == 0

    run(body())


def test_the_next_endpoint_is_asked_when_one_is_dead(etcd: EtcdServer) -> None:
    async def body() -> None:
        dead = f"http://127.0.0.1:{free_port()}"
        plain = etcd.url.removeprefix("http://")
        async with (
            processes(settings_of(dead, plain), 2) as (worker, frontend),
            following(frontend) as seen,
        ):
            await worker.register(INSTANCES, "w", b"1")
            await until(lambda: seen.records == {"w": b"1"})
            assert frontend.staleness() is None

    run(body())


def test_a_registry_that_is_not_there_is_an_error_that_names_it() -> None:
    async def body() -> None:
        url = f"http://127.0.0.1:{free_port()}"
        async with processes(settings_of(url), 1) as (worker,):
            with pytest.raises(DiscoveryError, match=url) as raised:
                await worker.register(INSTANCES, "w", b"1")
            assert "ETCD_ENDPOINTS" in raised.value.hint
            with pytest.raises(DiscoveryError):
                async with worker.watch(INSTANCES):
                    pass

    run(body())


def test_a_start_waits_for_a_registry_that_is_starting_too(tmp_path: Path) -> None:
    async def body(etcd: EtcdServer) -> None:
        settings = settings_of(etcd.url, startup_timeout_s=30.0)
        async with processes(settings, 1) as (worker,), asyncio.TaskGroup() as group:
            registering = group.create_task(worker.register(INSTANCES, "w", b"1"))
            await asyncio.sleep(0.7)
            assert not registering.done()
            await asyncio.to_thread(etcd.start)
        etcd.kill()

    with EtcdServer(tmp_path) as etcd:
        etcd.wipe()
        run(body(etcd))


def test_something_else_that_speaks_http_is_told_from_etcd(tmp_path: Path) -> None:
    async def body() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, processes(settings_of(url), 1) as (worker,):
            with pytest.raises(DiscoveryError, match="not etcd's JSON gateway"):
                await worker.list(INSTANCES)

    run(body())


def test_users_and_passwords(etcd: EtcdServer) -> None:
    etcd.call("auth/user/add", {"name": "root", "password": "open sesame"})
    etcd.call("auth/user/grant", {"user": "root", "role": "root"})
    etcd.call("auth/enable", {})

    async def body() -> None:
        right = settings_of(etcd.url, username="root", password="open sesame")
        async with processes(right, 2) as (worker, frontend), following(frontend) as seen:
            await worker.register(INSTANCES, "w", b"1")
            await until(lambda: seen.records == {"w": b"1"})
            etcd.kill()  # its tokens die with it
            etcd.start()
            await worker.register(INSTANCES, "x", b"1")
            await until(lambda: "x" in seen.records)
        for wrong, word in (
            (settings_of(etcd.url), "ETCD_AUTH_USERNAME"),
            (settings_of(etcd.url, username="root", password="x"), "ETCD_AUTH_PASSWORD"),
        ):
            async with processes(wrong, 1) as (worker,):
                with pytest.raises(DiscoveryError) as raised:
                    await worker.list(INSTANCES)
                assert word in raised.value.hint
                assert "sesame" not in str(raised.value)

    run(body())


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def test_tls_with_a_certificate_on_both_ends(tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ("-subj", "/CN=one", "-addext", "subjectAltName=IP:127.0.0.1")
    make = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1")
    openssl(*make, "-keyout", str(key), "-out", str(cert), *subject)
    options = ("--cert-file", str(cert), "--key-file", str(key), "--client-cert-auth")

    async def body(etcd: EtcdServer) -> None:
        trusting = settings_of(etcd.url, ca=cert, client_cert=cert, client_key=key)
        async with processes(trusting, 2) as (worker, frontend), following(frontend) as seen:
            await worker.register(INSTANCES, "w", b"1")
            await until(lambda: seen.records == {"w": b"1"})
        async with processes(settings_of(etcd.url, ca=cert), 1) as (worker,):
            with pytest.raises(DiscoveryError, match="cannot be reached"):
                await worker.list(INSTANCES)
        async with processes(settings_of(etcd.url), 1) as (worker,):
            with pytest.raises(DiscoveryError, match=r"(?i)certificate"):
                await worker.list(INSTANCES)
        for wrong in (
            settings_of(etcd.url, ca=tmp_path / "none.pem"),
            settings_of(etcd.url, client_cert=cert),
        ):
            async with processes(wrong, 1) as (worker,):
                with pytest.raises(ConfigError):
                    await worker.list(INSTANCES)

    ca = ("--trusted-ca-file", str(cert))
    with EtcdServer(tmp_path, *options, *ca, scheme="https") as etcd:
        run(body(etcd))


BLOCKED = """
import asyncio, sys, time
from muster.config.settings import EtcdSettings
from muster.discovery.etcd.registry import EtcdDiscovery

async def main():
    discovery = EtcdDiscovery(EtcdSettings(endpoints=(sys.argv[1],), lease_ttl_s=1))
    await discovery.register("v1/instances", "w", b"1")
    print("there", flush=True)
    time.sleep(4)
    sys.exit(3)  # no close: the exit handler gives the lease up

asyncio.run(main())
"""


def test_a_blocked_loop_keeps_its_lease_and_an_exit_gives_it_up(etcd: EtcdServer) -> None:
    command = [sys.executable, "-c", BLOCKED, etcd.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"

        async def body() -> None:
            async with (
                processes(settings_of(etcd.url, ttl_s=60), 1) as (frontend,),
                following(frontend) as seen,
            ):
                assert seen.records == {"w": b"1"}
                await until(lambda: process.poll() is not None)
                await listed(frontend, {})
                await until(lambda: not seen.records)
                assert seen.removals == 1

        run(body())
        assert process.returncode == 3
