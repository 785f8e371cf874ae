"""The two systems under measurement, as processes: Muster, and the peer (ai-dynamo).

Each gets a registry, a home and ports of its own on loopback, and is stopped by its process id.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "Endpoint",
    "System",
    "cpu_seconds",
    "free_port",
    "process",
    "rss_mb",
    "running",
    "small_free_port",
    "systems",
]

_START_S = 60.0


class Endpoint(NamedTuple):
    """A running system: where its API is, and the processes that make it up."""

    port: int
    frontend: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes]


class System(NamedTuple):
    """How to start one system: the command lines of its frontend and its mock worker."""

    name: str
    frontend: list[str]
    worker: list[str]


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def systems(peer: Path, model: Path) -> dict[str, System]:
    """The systems by name; ``{port}`` in a frontend's command line is its port."""
    muster = [sys.executable, "-m", "muster.cli.main"]
    dynamo = [str(peer / "bin" / "python"), "-m"]
    planes = ["--request-plane", "tcp", "--event-plane", "zmq"]
    mock = ["--model-path", str(model), "--model-name", "bench", "--speedup-ratio", "1000000"]
    roomy = ["--max-num-seqs", "4096", "--max-num-batched-tokens", "1000000"]
    roomy += ["--num-gpu-blocks-override", "1000000"]
    return {
        "muster": System(
            "muster",
            [*muster, "frontend", "--http-host", "127.0.0.1", "--http-port", "{port}"],
            [*muster, "worker", *mock],
        ),
        "peer": System(
            "peer",
            [*dynamo, "dynamo.frontend", "--http-port", "{port}", *planes],
            [*dynamo, "dynamo.mocker", *mock, *roomy, *planes],
        ),
    }


@contextlib.contextmanager
def running(
    frontend_of: System,
    worker_of: System,
    logs: Path | None = None,
    extra: dict[str, str] | None = None,
) -> Iterator[Endpoint]:
    """Start a frontend and a mock worker (of one system or of two) until the model is listed.

    Args:
        frontend_of: Whose frontend.
        worker_of: Whose worker.
        logs: Where their logs go instead of a temporary directory.
        extra: Environment of both on top, or instead.
    """
    both = extra or {}
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        port, system_port = free_port(), small_free_port()
        with contextlib.ExitStack() as stack:
            worker = stack.enter_context(
                process(
                    worker_of.worker,
                    root,
                    "worker",
                    {"DYN_SYSTEM_PORT": str(system_port), **both},
                    logs,
                )
            )
            command = [part.replace("{port}", str(port)) for part in frontend_of.frontend]
            frontend = stack.enter_context(process(command, root, "frontend", both, logs))
            _wait_listed(port, (worker, frontend))
            yield Endpoint(port, frontend, worker)


def small_free_port() -> int:
    """A free port the peer can parse: it reads the number as a signed 16-bit one."""
    for port in range(21000, 32000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port below 32768")


@contextlib.contextmanager
def process(
    command: list[str], root: Path, role: str, extra: dict[str, str], logs: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    """One process until the block ends: a home under ``root``, the registry ``root/registry``.

    Args:
        command: What to run.
        root: Where its home, its log and the registry are; a second process may use them again.
        role: Names its home and its log.
        extra: Environment on top, or instead.
        logs: Where its log goes instead.
    """
    home = root / f"home-{role}"
    home.mkdir(exist_ok=True)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("DYN_", "MUSTER_"))
    }
    environment |= {
        "HOME": str(home),
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": str(root / "registry"),
        "DYN_REQUEST_PLANE": "tcp",
        "DYN_EVENT_PLANE": "zmq",
        "DYN_TCP_RPC_HOST": "127.0.0.1",
        "DYN_SYSTEM_HOST": "127.0.0.1",
        "DYN_LOG": "warn",
        **extra,
    }
    log = (logs or root) / f"{role}.log"
    with log.open("wb") as output:
        child = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(10)


def _wait_listed(port: int, processes: tuple[subprocess.Popen[bytes], ...]) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if any(each.poll() is not None for each in processes):
            raise RuntimeError("a process of the system under test ended while starting")
        with contextlib.suppress(OSError, ValueError):
            url = f"http://127.0.0.1:{port}/v1/models"
            with urllib.request.urlopen(url, timeout=2) as reply:
                if json.load(reply)["data"]:
                    return
        time.sleep(0.05)
    raise RuntimeError(f"no model was listed within {_START_S:g} s")


def cpu_seconds(of: subprocess.Popen[bytes]) -> float:
    """User and system time a process has used so far."""
    fields = Path(f"/proc/{of.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(of: subprocess.Popen[bytes]) -> float:
    """Resident memory in MB."""
    for line in Path(f"/proc/{of.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
