"""What becomes of a process's records when it ends, hangs or is killed: with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.config.settings import DiscoverySettings
from muster.discovery.base import Change, Watch
from muster.discovery.file import FileDiscovery
from muster.discovery.records import INSTANCES

TTL = 1.0

# Registers one record, says so, and then does what its third argument names.
OWNER = """
import asyncio, os, sys, time
from pathlib import Path
from muster.config.settings import DiscoverySettings
from muster.discovery.file import FileDiscovery

root, ttl, then = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
discovery = FileDiscovery(DiscoverySettings(file_root=root, file_ttl_s=ttl, poll_interval_s=60))

async def main():
    async with discovery.watch("v1/instances"):
        await discovery.register("v1/instances", "owner", b"{}")
        print("ready", flush=True)
        if then == "wait":
            await asyncio.sleep(60)
        if then == "spin":
            end = time.monotonic() + 3 * ttl
            while time.monotonic() < end:
                pass
            print("done", flush=True)
            await asyncio.sleep(60)
        if then == "raise":
            raise RuntimeError("unhandled")
        if then == "exit":
            sys.exit(3)

asyncio.run(main())
"""


def start_owner(root: Path, then: str) -> subprocess.Popen[str]:
    """A process that has registered its record."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(root), str(TTL), then],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    if owner.stdout.readline() != "ready\n":
        pytest.fail(f"the owner did not start: {owner.communicate(timeout=10)[1]}")
    return owner


@contextlib.contextmanager
def running_owner(root: Path, then: str) -> Iterator[subprocess.Popen[str]]:
    owner = start_owner(root, then)
    try:
        yield owner
    finally:
        owner.kill()
        owner.communicate(timeout=10)


@contextlib.asynccontextmanager
async def observer(root: Path) -> AsyncIterator[tuple[FileDiscovery, Watch]]:
    """Another process on the registry: this one. It does not poll within a test."""
    discovery = FileDiscovery(DiscoverySettings(file_root=root, file_ttl_s=TTL, poll_interval_s=60))
    try:
        async with discovery.watch(INSTANCES) as watch:
            yield discovery, watch
    finally:
        await discovery.close()


async def next_change(watch: Watch, timeout_s: float) -> Change:
    return await asyncio.wait_for(anext(aiter(watch)), timeout_s)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 40))


def record(root: Path) -> Path:
    return root / "v1" / "instances" / "owner"


@pytest.mark.parametrize(
    ("then", "status"), [("return", 0), ("raise", 1), ("exit", 3), ("interrupt", None)]
)
def test_records_are_gone_as_soon_as_a_process_has_ended(
    tmp_path: Path, then: str, status: int | None
) -> None:
    owner = start_owner(tmp_path, "wait" if then == "interrupt" else then)
    if then == "interrupt":
        owner.send_signal(signal.SIGINT)
    _, errors = owner.communicate(timeout=20)
    assert status is None or owner.returncode == status, errors
    assert not record(tmp_path).exists()
    assert "Fatal Python error" not in errors
    assert "atexit" not in errors


def test_the_end_of_a_process_is_seen_at_once(tmp_path: Path) -> None:
    async def body() -> None:
        with running_owner(tmp_path, "wait") as owner:
            async with observer(tmp_path) as (_, watch):
                assert watch.snapshot == {"owner": b"{}"}
                owner.send_signal(signal.SIGINT)
                assert await next_change(watch, TTL) == Change("owner", None)

    run(body())


def test_a_killed_process_is_dropped_at_its_time_to_live_and_its_file_deleted(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        with running_owner(tmp_path, "wait") as owner:
            async with observer(tmp_path) as (discovery, watch):
                owner.kill()
                killed = time.monotonic()
                assert await next_change(watch, TTL + 1.0) == Change("owner", None)
                assert time.monotonic() - killed > TTL / 2, "dropped while its lease still ran"
                assert await discovery.list(INSTANCES) == {}
                assert not record(tmp_path).exists()

    run(body())


def test_a_process_that_starts_after_the_death_of_all_others_sees_nothing_and_cleans_up(
    tmp_path: Path,
) -> None:
    with running_owner(tmp_path, "wait") as owner:
        owner.kill()
        owner.wait(10)
    old = time.time() - 2 * TTL
    os.utime(record(tmp_path), (old, old))

    async def body() -> None:
        async with observer(tmp_path) as (discovery, watch):
            assert watch.snapshot == {}
            assert await discovery.list(INSTANCES) == {}
            assert not record(tmp_path).exists()

    run(body())


def test_a_process_whose_loop_spins_for_longer_than_the_time_to_live_keeps_its_record(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        with running_owner(tmp_path, "spin") as owner:
            inode = record(tmp_path).stat().st_ino
            async with observer(tmp_path) as (discovery, watch):
                assert owner.stdout is not None
                change = asyncio.ensure_future(anext(aiter(watch)))
                assert await asyncio.to_thread(owner.stdout.readline) == "done\n"
                assert not change.done()
                assert await discovery.list(INSTANCES) == {"owner": b"{}"}
                assert record(tmp_path).stat().st_ino == inode
                change.cancel()

    run(body())


def test_a_process_that_was_stopped_for_long_comes_back_with_its_record(tmp_path: Path) -> None:
    async def body() -> None:
        with running_owner(tmp_path, "wait") as owner:
            async with observer(tmp_path) as (_, watch):
                owner.send_signal(signal.SIGSTOP)
                assert await next_change(watch, TTL + 1.0) == Change("owner", None)
                owner.send_signal(signal.SIGCONT)
                assert await next_change(watch, TTL + 1.0) == Change("owner", b"{}")

    run(body())
