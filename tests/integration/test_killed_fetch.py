"""Frontends killed at random moments of a fetch: never a bad blob, never a leftover that blocks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from muster.config.settings import DiscoverySettings
from muster.discovery.file import FileDiscovery
from muster.discovery.records import (
    INSTANCES,
    MODELS,
    Instance,
    ModelRecord,
    Transport,
    TransportType,
)
from muster.model.checked_file import CheckedFile
from muster.testing.fleet import hosted_at
from muster.testing.loops import run
from muster.testing.metadata_server import MetadataServer, trickle
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(240)

ROUNDS, AT_A_TIME = 10, 5
"""Fifty frontends are killed."""
STEP = 16 * 1024


@asynccontextmanager
async def slow_worker(site: Site, model: Path) -> AsyncIterator[tuple[MetadataServer, list[Path]]]:
    """A worker in the registry whose files arrive in steps; gives the server and the files."""
    big = model / "big.txt"
    big.write_bytes(random.Random(1).randbytes(40 * STEP))
    discovery = FileDiscovery(DiscoverySettings(file_root=site.registry))
    try:
        async with MetadataServer() as server:
            for path in model.iterdir():
                server.add(f"/{path.name}", trickle(path.read_bytes(), every_s=0.03, step=STEP))
            card = hosted_at(server, model)
            extra = CheckedFile.from_disk(big).with_url(server.url("/big.txt"))
            card = msgspec.structs.replace(card, extra_files=(extra,))
            instance = Instance(
                namespace="ns",
                component="backend",
                endpoint="generate",
                instance_id=discovery.instance_id,
                transport=Transport(TransportType.TCP.value, f"127.0.0.1:{server.port}/1/x"),
            )
            record = ModelRecord(
                namespace="ns",
                component="backend",
                endpoint="generate",
                instance_id=discovery.instance_id,
                card_json=msgspec.Raw(card.to_json_str().encode()),
            )
            await discovery.register(INSTANCES, instance.key, instance.to_json())
            await discovery.register(MODELS, record.key, record.to_json())
            yield (
                server,
                [big, *(model / (file.basename() or "") for file in card.iter_typed_files())],
            )
    finally:
        await discovery.close()


def check_blobs(cache: Path) -> int:
    """Every file under a blob's name has the bytes that name says; how many there are."""
    blobs = [path for path in (cache / "blobs").glob("*") if len(path.name) == 64]
    for path in blobs:
        assert blake3(path.read_bytes()).hexdigest() == path.name
    return len(blobs)


async def kill_some(site: Site, server: MetadataServer, number: int, chance: random.Random) -> None:
    """Start a few frontends on one cache; once the first fetches, each is killed at its own moment."""
    options = ("--cache-dir", str(site.root / "cache"))
    before = len(server.requests)
    for each in range(AT_A_TIME):
        site.start_frontend(*options, role=f"killed{number}-{each}")
    killed = site.processes[-AT_A_TIME:]
    async with asyncio.timeout(60):
        await server.wait_for_requests(before + 1)
    for process in killed:
        asyncio.get_running_loop().call_later(chance.uniform(0.0, 2.5), process.kill)
    await asyncio.to_thread(
        wait_until, lambda: not any(process.is_running() for process in killed), "all killed"
    )


def test_fifty_killed_frontends_leave_no_bad_blob_and_nothing_that_blocks(
    site: Site, model: Path
) -> None:
    chance = random.Random(20)
    cache = site.root / "cache"

    async def scenario() -> None:
        async with slow_worker(site, model) as (server, files):
            seen = 0
            big = blake3(files[0].read_bytes()).hexdigest()
            for number in range(ROUNDS):
                await kill_some(site, server, number, chance)
                seen += check_blobs(cache)
                for path in sorted((cache / "blobs").glob("?" * 64)):
                    if path.name == big or chance.random() < 0.5:
                        path.unlink()
            assert seen, "no fetch came to an end before its frontend was killed"
            leftovers = [*cache.glob("blobs/*.tmp.*")]
            assert leftovers, "no frontend was killed while it was fetching"
            last = site.start_frontend("--cache-dir", str(cache), role="last")
            await asyncio.to_thread(last.wait_for_model, "tiny")
            assert check_blobs(cache) == len({path.read_bytes() for path in files})

    run(scenario(), timeout_s=220)
