"""One file registry, a Dynamo 1.6.1 process and Muster: each sees and spares the other's records."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.config.settings import DiscoverySettings
from muster.discovery.base import Change, Watch
from muster.discovery.file import FileDiscovery
from muster.discovery.records import INSTANCES, Instance, Transport

pytestmark = [
    pytest.mark.peer,
    pytest.mark.usefixtures("peer"),
    pytest.mark.timeout(120),
]

ENDPOINT = "interop/backend/generate"
# Longer than Dynamo's time to live of 10 s: whoever does not refresh is removed within it.
WATCH_S = 13.0

WORKER = """
import uvloop
from dynamo.runtime import dynamo_worker

@dynamo_worker()
async def main(runtime):
    async def handler(request):
        yield {"ok": True}
    await runtime.endpoint("interop.backend.generate").serve_endpoint(handler)

uvloop.run(main())
"""

# Prints the ids a Dynamo client sees whenever asked by a line on standard input.
CLIENT = """
import asyncio, sys
import uvloop
from dynamo.runtime import dynamo_worker

@dynamo_worker()
async def main(runtime):
    client = await runtime.endpoint("interop.backend.generate").client()
    while await asyncio.to_thread(sys.stdin.readline):
        print(*sorted(client.instance_ids()), flush=True)

uvloop.run(main())
"""


@contextlib.contextmanager
def dynamo(script: str, directory: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A Dynamo process on the registry in ``directory``."""
    home.mkdir()
    process = subprocess.Popen(
        [Path(os.environ["PEER"]) / "bin" / "python", "-c", script],
        env={
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(home),
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": str(directory),
            "DYN_REQUEST_PLANE": "tcp",
            "DYN_EVENT_PLANE": "zmq",
            "DYN_TCP_RPC_HOST": "127.0.0.1",
            "DYN_LOG": "warn",
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate(timeout=10)


def ask_ids(client: subprocess.Popen[str]) -> list[int]:
    """The instance ids a Dynamo client sees now."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write("?\n")
    client.stdin.flush()
    return [int(word) for word in client.stdout.readline().split()]


async def eventually_ids(client: subprocess.Popen[str], expected: list[int]) -> None:
    async with asyncio.timeout(30):
        while await asyncio.to_thread(ask_ids, client) != expected:  # noqa: ASYNC110 - we can only ask
            await asyncio.sleep(0.1)


async def next_change(watch: Watch, timeout_s: float) -> Change:
    return await asyncio.wait_for(anext(aiter(watch)), timeout_s)


def ours(instance_id: int) -> Instance:
    return Instance(
        namespace="interop",
        component="backend",
        endpoint="generate",
        instance_id=instance_id,
        transport=Transport("tcp", f"127.0.0.1:9/{instance_id:x}/{ENDPOINT}"),
        device_type="cpu",
        request_plane_codec="msgpack",
    )


@contextlib.contextmanager
def muster(directory: Path) -> Iterator[FileDiscovery]:
    discovery = FileDiscovery(DiscoverySettings(file_root=directory))
    try:
        yield discovery
    finally:
        discovery.close_now()


def test_a_dynamo_worker_is_listed_by_us_and_both_records_outlive_the_time_to_live(
    tmp_path: Path,
) -> None:
    async def body(discovery: FileDiscovery) -> None:
        own = ours(discovery.instance_id)
        await discovery.register(INSTANCES, own.key, own.to_json(), create=True)
        async with discovery.watch(INSTANCES, ENDPOINT) as watch:
            assert watch.snapshot == {own.key: own.to_json()}
            with dynamo(WORKER, tmp_path / "kv", tmp_path / "home") as worker:
                added = await next_change(watch, 40)
                assert added.value is not None
                theirs = Instance.from_json(added.value)
                assert theirs.key == added.key
                assert theirs.to_json() == added.value, "we write other bytes than Dynamo does"
                inodes = {
                    path.name: path.stat().st_ino
                    for path in (tmp_path / "kv" / INSTANCES).iterdir()
                }
                assert len(inodes) == 2
                # Both janitors are at work in this time; no record may be touched by them.
                with contextlib.suppress(TimeoutError):
                    pytest.fail(f"unexpected: {await next_change(watch, WATCH_S)}")
                listed = await discovery.list(INSTANCES)
                assert listed == {own.key: own.to_json(), theirs.key: added.value}
                for name, inode in inodes.items():
                    assert (tmp_path / "kv" / INSTANCES / name).stat().st_ino == inode
                worker.kill()
                killed = time.monotonic()
                assert await next_change(watch, 15) == Change(theirs.key, None)
                assert time.monotonic() - killed < 11.5

    with muster(tmp_path / "kv") as discovery:
        asyncio.run(body(discovery))


def test_a_dynamo_client_sees_ours_come_stay_and_go(tmp_path: Path) -> None:
    async def body(discovery: FileDiscovery, client: subprocess.Popen[str]) -> None:
        await eventually_ids(client, [])
        own = ours(discovery.instance_id)
        await discovery.register(INSTANCES, own.key, own.to_json())
        await eventually_ids(client, [own.instance_id])
        end = time.monotonic() + WATCH_S
        while time.monotonic() < end:
            assert await asyncio.to_thread(ask_ids, client) == [own.instance_id]
            await asyncio.sleep(0.25)
        await discovery.deregister(INSTANCES, own.key)
        await eventually_ids(client, [])

    with (
        muster(tmp_path / "kv") as discovery,
        dynamo(CLIENT, tmp_path / "kv", tmp_path / "home") as client,
    ):
        asyncio.run(body(discovery, client))
