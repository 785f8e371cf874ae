"""CPU time of a frontend and a worker nobody asks anything, with a hundred instances registered.

A real worker registers its model; ``crowd.py`` registers as many copies of its records under other
identities as are wanted, and keeps them alive as that many processes would: each refreshed on its
own, evenly spread in time. Once a frontend lists the model, everything is left alone, and the user
and system time of the frontend and of the worker is taken over a window. Figures are percent of one
core, the median of the rounds; with ``--backends file,etcd`` over each registry.

    python benchmarks/idle_cpu.py --peer DIR --shared ../shared [--rounds 5] [--seconds 20]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
import urllib.request
from pathlib import Path

from servers import crowd, etcd, etcd_missing
from suite import Suite, arguments
from systems import OWN, Endpoint, System, running, systems
from usage import cpu_seconds

_READY_S = 60.0


def window(system: Endpoint, seconds: float) -> dict[str, float]:
    """Percent of a core over the next ``seconds``."""
    used = (cpu_seconds(system.frontend), cpu_seconds(system.worker))
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return {
        "frontend_percent": (cpu_seconds(system.frontend) - used[0]) / took * 100,
        "worker_percent": (cpu_seconds(system.worker) - used[1]) / took * 100,
    }


def wait_known(system: Endpoint, count: int) -> None:
    """Wait until the frontend knows that many instances."""
    known, deadline = 0, time.monotonic() + _READY_S
    while known < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the frontend knows {known} of {count} instances")
        time.sleep(0.1)
        with urllib.request.urlopen(f"http://127.0.0.1:{system.port}/health", timeout=5) as reply:
            known = len({each["instance_id"] for each in json.load(reply)["instances"]})


def measure(system: System, backend: str, options: argparse.Namespace) -> dict[str, float]:
    """One round with one system over one registry, alone and then in company."""
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        extra = {
            "DYN_DISCOVERY_BACKEND": backend,
            "DYN_FILE_KV": str(root / "registry"),
            "TMPDIR": str(root),
        }
        if backend == "etcd":
            extra["ETCD_ENDPOINTS"] = stack.enter_context(etcd())
        both = stack.enter_context(running(system, system, extra=extra))
        time.sleep(options.settle)
        figures = {
            f"{backend}_alone_{key}": value for key, value in window(both, options.seconds).items()
        }
        stack.enter_context(crowd(options.instances, extra, root))
        wait_known(both, options.instances + 1)
        time.sleep(options.settle)
        return figures | {
            f"{backend}_{key}": value for key, value in window(both, options.seconds).items()
        }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, help="of each window")
    parser.add_argument("--settle", type=float, default=5, help="seconds before a window")
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--backends", default="file,etcd")
    suite = Suite("idle_cpu", parser)
    suite.options.seconds = suite.options.seconds or (10.0 if suite.short else 20.0)
    known = systems(suite.peer, suite.model)
    backends = suite.options.backends.split(",")
    if "etcd" in backends and (missing := etcd_missing()):
        suite.left_out["etcd"] = missing
        backends.remove("etcd")
    for _ in suite.numbers(OWN):
        for who in OWN:
            for backend in backends:
                suite.add(who, measure(known[who], backend, suite.options))
    suite.finish()


if __name__ == "__main__":
    main()
