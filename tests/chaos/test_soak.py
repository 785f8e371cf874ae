"""A thousand streams at a time for a minute leave nothing behind in a worker or a frontend.

``MUSTER_SOAK_SECS`` says for how long. Both processes tell on SIGUSR1 how many tasks they have and
how many objects they hold.

What is compared: the moment after a first wave of a thousand streams, when pools, caches and tables
have their size, and the moment when the last stream is over. Descriptors and tasks must be no more
than then, exactly. Objects may be more by fewer than one for every ten streams: something kept of
each request would show at once, and nothing else is as steady. The resident set is a coarser check,
because the allocator keeps what it once had: in the second half of the run, at the same load, it
must not grow by more than a tenth.
"""

from __future__ import annotations

import logging
import os
import signal
import statistics
import time
from functools import partial
from pathlib import Path

import pytest

from muster.testing.api import Api
from muster.testing.chaos import Backend, open_files, resident_bytes
from muster.testing.load import Load
from muster.testing.ports import free_port
from muster.testing.process import Process
from muster.testing.site import Site
from muster.testing.waiting import wait_until

SECONDS = float(os.environ.get("MUSTER_SOAK_SECS", "60"))

pytestmark = pytest.mark.timeout(SECONDS + 240)

logger = logging.getLogger("chaos")

STREAMS = 1000
LENGTHS = (10, 20, 30)
"""Tokens of a reply; at some five a second."""
NAME = "tiny"

TELL = """
import asyncio, gc, os, signal
from muster.config.settings import Settings
from muster.frontend.serve import serve_frontend
from muster.worker.engines.mock import MockEngine, MockSettings
from muster.worker.engines.timing import Timing
from muster.worker.serve import WorkerOptions, serve_worker

def tell():
    gc.collect()
    print("told", len(asyncio.all_tasks()), len(gc.get_objects()), flush=True)

async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
    {body}

try:
    import uvloop
except ImportError:
    asyncio.run(main())
else:
    uvloop.run(main())
"""
WORKER = """settings = Settings.load(flags={{"system.port": 0}})
    options = WorkerOptions(model_path={model!r}, model_name={name!r})
    load = lambda directory: MockEngine(directory / "tokenizer.json", MockSettings(timing=Timing(0.03)))
    await serve_worker(options, settings, load, lambda report: print("serving", flush=True))
"""
FRONTEND = """settings = Settings.load(flags={{"http.host": "127.0.0.1", "http.port": {port}}})
    await serve_frontend(settings, os.environ, lambda frontend: print("listening", flush=True))
"""


class Watched:
    """A process and what it holds."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.resident: list[int] = []
        self._told = 0

    def tell(self) -> tuple[int, int]:
        """Its tasks and its objects."""
        self.process.signal(signal.SIGUSR1)
        self._told += 1
        lines = wait_until(lambda: self._lines(), "it tells")
        _, tasks, objects = lines[-1].split()
        return int(tasks), int(objects)

    def _lines(self) -> list[str]:
        lines = [line for line in self.process.text().splitlines() if line.startswith("told ")]
        return lines if len(lines) >= self._told else []

    def held(self) -> tuple[int, int, int]:
        """Descriptors, tasks, objects."""
        return (open_files(self.process.pid), *self.tell())


def test_a_thousand_streams_leave_no_memory_no_task_and_no_descriptor(
    site: Site, model: Path
) -> None:
    environment = Backend.file(site, ttl_s=10).environment
    port = free_port()
    worker = site.script(
        TELL.format(body=WORKER.format(model=str(model), name=NAME)), role="worker", **environment
    )
    frontend = Api(
        site.script(TELL.format(body=FRONTEND.format(port=port)), role="frontend", **environment),
        port,
    )
    wait_until(lambda: "listening" in frontend.process.text(), "the frontend listens")
    frontend.wait_for_model(NAME)
    both = {"worker": Watched(worker), "frontend": Watched(frontend.process)}

    def load(lengths: tuple[int, ...]) -> Load:
        return Load(
            [frontend.url], NAME, clients=STREAMS, lengths=lengths, streamed=1.0, pause_s=0.01,
            deadline_s=120,
        )  # fmt: skip

    with load((10,)) as first:
        wait_until(lambda: len(first.outcomes) > STREAMS, "a first wave")
    assert first.failures() == []
    settled: dict[str, tuple[int, int, int]] = {}
    for name, watched in both.items():
        wait_until(partial(is_steady, watched), f"{name} is at rest")
        settled[name] = watched.held()

    with load(LENGTHS) as main:
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            time.sleep(0.5)
            for watched in both.values():
                watched.resident.append(resident_bytes(watched.process.pid))
    summary = main.summary()
    logger.info("soak: %s", summary)
    assert main.failures() == []
    assert main.lost == []

    for name, watched in both.items():
        files, tasks, objects = settled[name]
        wait_until(partial(has_closed, watched, files), f"{name}'s descriptors are closed")
        now = watched.held()
        logger.info("%s: descriptors, tasks, objects %s -> %s", name, settled[name], now)
        assert now[0] <= files
        assert now[1] <= tasks
        assert now[2] - objects < summary.requests / 10
        half = watched.resident[len(watched.resident) // 2 :]
        fifth = max(len(half) // 5, 1)
        early, late = statistics.median(half[:fifth]), statistics.median(half[-fifth:])
        logger.info("%s: resident %.1f MB -> %.1f MB", name, early / 1e6, late / 1e6)
        assert late < 1.1 * early


def has_closed(watched: Watched, files: int) -> bool:
    return open_files(watched.process.pid) <= files


def is_steady(watched: Watched) -> bool:
    before = watched.held()
    time.sleep(1)
    return before == watched.held()
