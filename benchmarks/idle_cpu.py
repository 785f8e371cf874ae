"""CPU time of a frontend and a worker nobody asks anything, with a hundred instances registered.

A real worker registers its model; ``crowd.py`` registers as many copies of its records under other
identities as are wanted, and keeps them alive as that many processes would: each refreshed on its
own, evenly spread in time. Once a frontend lists the model, everything is left alone, and the user
and system time of the frontend and of the worker is taken over a window. Figures are percent of one
core, the median of the rounds; with ``--backends file,etcd`` over each registry.

    python benchmarks/idle_cpu.py --peer DIR --shared ../shared [--rounds 3] [--seconds 20]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from servers import etcd, etcd_missing
from summary import report
from systems import Endpoint, System, cpu_seconds, process, running, systems

HERE = Path(__file__).resolve().parent
_READY_S = 60.0


@contextlib.contextmanager
def crowd(count: int, extra: dict[str, str], root: Path) -> Iterator[None]:
    """``count`` more instances from when they are registered until the block ends."""
    command = [sys.executable, str(HERE / "crowd.py"), str(count)]
    with process(command, root, "crowd", extra, None) as others:
        log, deadline = root / "crowd.log", time.monotonic() + _READY_S
        while "registered" not in log.read_text():
            if others.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the crowd did not register: {log.read_text()[-1000:]}")
            time.sleep(0.05)
        yield
        if others.poll() is not None:
            raise RuntimeError(f"the crowd ended: {log.read_text()[-1000:]}")


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="virtual environment of the peer")
    parser.add_argument("--shared", type=Path, required=True, help="directory with models/")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--settle", type=float, default=5, help="seconds before a window")
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--backends", default="file,etcd")
    options = parser.parse_args()
    known = systems(options.peer.absolute(), (options.shared / "models" / "deepseek").resolve())
    backends = options.backends.split(",")
    left_out: dict[str, str] = {}
    if "etcd" in backends and (missing := etcd_missing()):
        left_out["etcd"] = missing
        backends.remove("etcd")
    rounds: dict[str, list[dict[str, float]]] = {who: [] for who in known}
    for number in range(options.rounds):
        for who, system in known.items():
            row: dict[str, float] = {}
            for backend in backends:
                row |= measure(system, backend, options)
            rounds[who].append(row)
            shown = ", ".join(f"{key} {value:.2f}" for key, value in row.items())
            print(f"round {number + 1} {who}: {shown}", file=sys.stderr, flush=True)
    ratios = {"muster": "peer"}
    print(json.dumps(report("idle_cpu", rounds, ratios_to=ratios, left_out=left_out), indent=1))


if __name__ == "__main__":
    main()
