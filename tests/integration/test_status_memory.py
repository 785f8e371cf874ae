"""What a worker's memory does while many clients take a large file, measured in its own process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1 << 20
SIZE = 1024 * MIB
CLIENTS = 50
TAKEN = 48 * MIB
"""What each client takes of the file before it waits for the others; all are mid-file at a time."""

SERVER = """
import asyncio, json, sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from muster.config.settings import SystemSettings
from muster.content.snapshot import take_snapshot
from muster.names import EndpointId
from muster.runtime.metadata.registry import (
    Artifact, MetadataArtifactRegistry, MetadataKey, MetadataOwner)
from muster.runtime.metadata.route import format_path
from muster.runtime.status.server import HealthReport, StatusServer

def memory():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmHWM"].split()[0]) * 1024

async def main():
    registry = MetadataArtifactRegistry()
    key = MetadataKey("n", "c", "e", "s", "_base", "big.json")
    source = Path(sys.argv[1])
    snapshot = take_snapshot(source)
    owner = MetadataOwner(1, EndpointId("n", "c", "e"))
    registry.register(owner, {key: Artifact(source, snapshot)})
    health = lambda: HealthReport(ready=True, uptime_s=0.0, endpoints={})
    server = StatusServer(
        SystemSettings(host="127.0.0.1", port=0), registry, health, CollectorRegistry())
    async with server:
        print(json.dumps({"port": server.port, "path": format_path(key), "peak": memory()}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(json.dumps({"peak": memory()}), flush=True)

asyncio.run(main())
"""


async def _take(port: int, path: str, together: asyncio.Barrier) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MIB)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    received = 0
    while received < TAKEN and (data := await reader.read(MIB)):
        received += len(data)
    await together.wait()
    writer.transport.abort()
    return received


async def _take_all(port: int, path: str) -> list[int]:
    together = asyncio.Barrier(CLIENTS)
    async with asyncio.timeout(50):
        return await asyncio.gather(*(_take(port, path, together) for _ in range(CLIENTS)))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to measure memory")
def test_serving_a_large_file_to_many_takes_memory_per_client_not_per_byte(tmp_path: Path) -> None:
    big = tmp_path / "big.json"
    with big.open("wb") as file:
        file.truncate(SIZE)
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(big)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            started = json.loads(child.stdout.readline())
            received = asyncio.run(_take_all(started["port"], started["path"]))
            child.stdin.write("\n")
            child.stdin.flush()
            ended = json.loads(child.stdout.readline())
        finally:
            child.kill()
    assert min(received) >= TAKEN
    assert ended["peak"] - started["peak"] < 60 * MIB
