"""Instances that are only in the registry: copies of those that are there, kept alive.

``crowd.py COUNT MODELS`` reads the registry the environment names, registers COUNT copies of one
instance of each endpoint that has a model, and of its card, under identities of their own, says
``registered`` and keeps them alive until it is stopped. Unless MODELS is 0, the copies are spread
over so many models, each with a name of its own and the same files.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muster.config.settings import Settings
from muster.discovery.base import Discovery
from muster.discovery.directory import RecordDirectory
from muster.discovery.file import DEFAULT_DIRECTORY
from muster.discovery.lease import refresh_interval
from muster.discovery.open import open_discovery
from muster.discovery.records import INSTANCES, MODELS
from muster.names import encode_file_name

FIRST = 0x0BE2_0000_0000_0001
"""The first copy's identity; the others follow."""


def copies(
    models: Mapping[str, bytes], instances: Mapping[str, bytes], count: int, names: int
) -> list[tuple[str, str, bytes]]:
    """Bucket, key and value of each copy."""
    found: list[tuple[str, str, bytes]] = []
    for path in models:
        endpoint, _, _ = path.rpartition("/")
        for bucket, records in ((INSTANCES, instances), (MODELS, models)):
            record = json.loads(records[path])
            for number in range(FIRST, FIRST + count):
                copy = {**record, "instance_id": number}
                if names and bucket == MODELS:
                    copy["card_json"] = renamed(record["card_json"], f"bench-{number % names}")
                found.append((bucket, f"{endpoint}/{number:x}", json.dumps(copy).encode()))
    return found


def renamed(card: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The card of a model of that name."""
    return {**card, "display_name": name, "slug": name}


async def keep_files(root: Path, records: list[tuple[str, str, bytes]], interval_s: float) -> None:
    """Refresh each file once an interval, at a moment of its own, as separate processes would."""
    claims = []
    for bucket, key, value in records:
        directory, name = RecordDirectory(f"{root}/{bucket}"), encode_file_name(key)
        claims.append((directory, name, directory.write(name, value, create=True)))
    print("registered", flush=True)
    loop = asyncio.get_running_loop()
    due = loop.time()
    try:
        while True:
            for directory, name, inode in claims:
                due += interval_s / len(claims)
                await asyncio.sleep(max(0.0, due - loop.time()))
                directory.touch(name, inode)
    finally:
        for directory, name, inode in claims:
            directory.remove(name, inode)


async def keep_lease(discovery: Discovery, records: list[tuple[str, str, bytes]]) -> None:
    """Register all with one lease: what a lease costs does not depend on whose it is."""
    for bucket, key, value in records:
        await discovery.register(bucket, key, value)
    print("registered", flush=True)
    await asyncio.Event().wait()


async def main(count: int, names: int) -> None:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    settings = Settings.load()
    discovery = open_discovery(settings.discovery, settings.etcd)
    try:
        models = await discovery.list(MODELS)
        records = copies(models, await discovery.list(INSTANCES), count, names)
        if settings.discovery.backend == "file":
            # This process's own look at the directory is no part of the crowd.
            await discovery.close()
            default = settings.discovery.temporary_directory / DEFAULT_DIRECTORY
            root = settings.discovery.file_root or default
            await keep_files(root, records, refresh_interval(settings.discovery.file_ttl_s))
        else:
            await keep_lease(discovery, records)
    finally:
        await discovery.close()


if __name__ == "__main__":
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
