"""Registries: what registering, listing and hearing of a change cost, on every backend.

For each backend, two handles as two processes would have them (in one process, so both share one
interpreter): one writes, one reads.

* ``register_1000_s``: a thousand records, 16 at a time.
* ``list_10000_s``: the ten thousand records that are there then, cold: by a reader that has not looked
  yet.
* ``event_median_us`` and ``event_p99_us``: from calling ``register`` until a watch gives the record,
  one after the other, with a hundred records there.

``seen_median_ms``: from calling ``serve_endpoint`` until a client of that endpoint in
the same process has an instance, for Muster and for Dynamo's bindings, on the file and etcd
backends. Rounds are interleaved; figures are medians.

    python benchmarks/discovery.py --peer DIR --shared ../shared [--rounds 5]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import uvloop
from servers import etcd, etcd_missing
from suite import Suite, arguments
from systems import process

from muster.config.settings import DiscoverySettings, EtcdSettings
from muster.discovery.base import Discovery
from muster.discovery.memory import MemoryRegistry
from muster.discovery.open import open_discovery
from muster.discovery.records import INSTANCES, Instance, Transport

HERE = Path(__file__).resolve().parent
_REGISTERED, _LISTED, _EVENTS, _THERE = 1000, 10_000, 200, 100
_AT_ONCE = 16
_RUN_S = 120.0

Opener = Callable[[], Discovery]


@contextlib.contextmanager
def backend(name: str, url: str) -> Iterator[Opener]:
    """How to open another handle on a fresh registry of that kind."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = DiscoverySettings(backend=name, file_root=Path(scratch))
        registry = MemoryRegistry()
        where = EtcdSettings(endpoints=(url,)) if url else None
        yield lambda: open_discovery(settings, where, registry=registry)


@contextlib.asynccontextmanager
async def opened(opener: Opener) -> AsyncIterator[Discovery]:
    discovery = opener()
    try:
        yield discovery
    finally:
        await discovery.close()


def record(number: int) -> tuple[str, bytes]:
    """The key and the text of an instance's record, as real ones are."""
    instance = Instance(
        namespace="bench",
        component="backend",
        endpoint="generate",
        instance_id=(1 << 60) + number,
        transport=Transport("tcp", f"127.0.0.1:{20000 + number}/{number:x}/generate"),
    )
    return instance.key, instance.to_json()


async def register(discovery: Discovery, first: int, count: int) -> None:
    """Register some records, several at a time."""
    numbers = iter(range(first, first + count))

    async def lane() -> None:
        for number in numbers:
            await discovery.register(INSTANCES, *record(number))

    await asyncio.gather(*[lane() for _ in range(_AT_ONCE)])


async def measure(opener: Opener) -> dict[str, float]:
    """One round on a fresh registry."""
    async with opened(opener) as writer:
        await register(writer, 0, _THERE)
        async with opened(opener) as reader:
            events = await hear(writer, reader)
        began = time.perf_counter()
        await register(writer, _THERE + _EVENTS, _REGISTERED)
        registered_s = time.perf_counter() - began
        there = _THERE + _EVENTS + _REGISTERED
        await register(writer, there, _LISTED - there)
        async with opened(opener) as reader:
            began = time.perf_counter()
            found = await reader.list(INSTANCES)
            listed_s = time.perf_counter() - began
        if len(found) != _LISTED:
            raise AssertionError(f"{len(found)} of {_LISTED} records are listed")
    return {
        "register_1000_s": registered_s,
        "list_10000_s": listed_s,
        "event_median_us": statistics.median(events) * 1e6,
        "event_p99_us": statistics.quantiles(events, n=100)[-1] * 1e6,
    }


async def hear(writer: Discovery, reader: Discovery) -> list[float]:
    """Seconds until each record registered is known to a watch."""
    took: list[float] = []
    async with reader.watch(INSTANCES) as watch:
        changes = aiter(watch)
        for number in range(_THERE, _THERE + _EVENTS):
            key, value = record(number)
            began = time.perf_counter()
            registering = asyncio.create_task(writer.register(INSTANCES, key, value))
            change = await anext(changes)
            took.append(time.perf_counter() - began)
            await registering
            if change.key != key:
                raise AssertionError(f"{change.key} came, not {key}")
    return took


def seen(python: str, script: str, extra: dict[str, str]) -> float:
    """Median milliseconds until an endpoint that is served is seen."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        more = {"DYN_FILE_KV": str(root / "registry"), "DYN_LOG": "error", **extra}
        with process([python, str(HERE / script), "seen"], root, "seen", more, None) as child:
            child.wait(_RUN_S)
        text = (root / "seen.log").read_text()
        for line in text.splitlines():
            if line.startswith('{"seen_ms"'):
                return float(statistics.median(json.loads(line)["seen_ms"]))
        raise RuntimeError(f"no figures: {text[-300:]}")


def main() -> None:
    suite = Suite("discovery", arguments(__doc__))
    names = ["memory", "file", "etcd"]
    if missing := etcd_missing():
        suite.left_out["etcd"] = missing
        names.remove("etcd")
    sides = {
        "muster": (sys.executable, "rpc_muster.py"),
        "peer": (str(suite.peer / "bin" / "python"), "rpc_dynamo.py"),
    }
    for _ in suite.numbers(sides):
        for name in names:
            with contextlib.ExitStack() as stack:
                url = stack.enter_context(etcd()) if name == "etcd" else ""
                opener = stack.enter_context(backend(name, url))
                suite.add("muster", uvloop.run(measure(opener)), name)
                for who, (python, script) in (
                    suite.in_turn(sides.items()) if name != "memory" else ()
                ):
                    extra = {"DYN_DISCOVERY_BACKEND": name, "ETCD_ENDPOINTS": url}
                    suite.add(who, {"seen_median_ms": seen(python, script, extra)}, name)
    suite.finish()


if __name__ == "__main__":
    main()
