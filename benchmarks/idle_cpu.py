"""CPU time of a frontend and a worker nobody asks anything, with a hundred instances registered.

A real worker registers its model; ``crowd.py`` registers as many copies of its records under other
identities as are wanted, and keeps them alive as that many processes would: each refreshed on its
own, evenly spread in time. Once a frontend lists the model, everything is left alone, and the user
and system time of the frontend and of the worker is taken over a window: ``alone``, before the crowd
comes, and beside it. Figures are percent of one core; with ``--backends file,etcd`` over each
registry.

Every system over every registry is started and measured at the same time, so that the windows are
the same: together they use a few percent of a core.

    python benchmarks/idle_cpu.py --peer DIR --shared ../shared [--rounds 5] [--seconds 30]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from servers import crowd, etcd, etcd_missing
from suite import Suite, arguments
from systems import OWN, Endpoint, System, running, systems
from usage import cpu_seconds

_READY_S = 60.0
T = TypeVar("T")
Place = tuple[str, str]
"""A system and the registry it is over."""


def windows(systems: Mapping[T, Endpoint], seconds: float) -> dict[T, dict[str, float]]:
    """Percent of a core of each system over the next ``seconds``, the same ones for all."""

    def used() -> dict[T, tuple[float, float, float]]:
        return {
            key: (cpu_seconds(at.frontend), cpu_seconds(at.worker), time.monotonic())
            for key, at in systems.items()
        }

    before = used()
    time.sleep(seconds)
    found: dict[T, dict[str, float]] = {}
    for key, (frontend, worker, now) in used().items():
        took = (now - before[key][2]) / 100
        found[key] = {
            "frontend_percent": (frontend - before[key][0]) / took,
            "worker_percent": (worker - before[key][1]) / took,
        }
    return found


def wait_known(system: Endpoint, count: int) -> None:
    """Wait until the frontend knows that many instances."""
    known, deadline = 0, time.monotonic() + _READY_S
    while known < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the frontend knows {known} of {count} instances")
        time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{system.port}/health", timeout=5) as reply:
            known = len({each["instance_id"] for each in json.load(reply)["instances"]})


def measure(suite: Suite, known: Mapping[str, System], backends: Sequence[str]) -> None:
    """One round: everything alone, and then in company."""
    options: argparse.Namespace = suite.options
    with contextlib.ExitStack() as stack:
        roots: dict[Place, tuple[Path, dict[str, str]]] = {}
        there: dict[Place, Endpoint] = {}
        for who, backend in suite.in_turn(itertools.product(OWN, backends)):
            root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            extra = {
                "DYN_DISCOVERY_BACKEND": backend,
                "DYN_FILE_KV": str(root / "registry"),
                "TMPDIR": str(root),
            }
            if backend == "etcd":
                extra["ETCD_ENDPOINTS"] = stack.enter_context(etcd())
            roots[who, backend] = root, extra
            started = running(known[who], known[who], extra=extra)
            there[who, backend] = stack.enter_context(started)
        time.sleep(options.settle)
        for (who, backend), figures in windows(there, options.seconds).items():
            suite.add(who, figures, f"{backend}_alone")
        for root, extra in roots.values():
            stack.enter_context(crowd(options.instances, extra, root))
        for at in there.values():
            wait_known(at, options.instances + 1)
        time.sleep(options.settle)
        for (who, backend), figures in windows(there, options.seconds).items():
            suite.add(who, figures, backend)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, help="of each window")
    parser.add_argument("--settle", type=float, default=5, help="seconds before a window")
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--backends", default="file,etcd")
    suite = Suite("idle_cpu", parser)
    suite.options.seconds = suite.options.seconds or (15.0 if suite.short else 30.0)
    known = systems(suite.peer, suite.model)
    backends = suite.options.backends.split(",")
    if "etcd" in backends and (missing := etcd_missing()):
        suite.left_out["etcd"] = missing
        backends.remove("etcd")
    for _ in suite.numbers(OWN):
        measure(suite, known, backends)
    suite.finish()


if __name__ == "__main__":
    main()
