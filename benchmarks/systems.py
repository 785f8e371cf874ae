"""The two systems under measurement, as processes: Muster, and the peer (ai-dynamo).

Each gets a registry, a home and ports of its own on loopback, and is stopped by its process id.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

__all__ = [
    "CROSSED",
    "CROSSED_X2",
    "OWN",
    "OWN_X2",
    "Endpoint",
    "System",
    "all_running",
    "free_port",
    "frontend_command",
    "get_json",
    "model_ids",
    "process",
    "running",
    "small_free_port",
    "systems",
]

_START_S = 60.0
_LOOKS = 12
OWN = {"muster": ("muster", "muster"), "peer": ("peer", "peer")}
"""Frontend and worker of each pair: every system with its own mock."""
CROSSED = {
    "muster_over_muster": ("muster", "muster"),
    "peer_over_muster": ("peer", "muster"),
    "muster_over_peer": ("muster", "peer"),
    "peer_over_peer": ("peer", "peer"),
}
"""Both frontends over both mocks."""
OWN_X2 = {"muster_x2": ("muster_x2", "muster")}
CROSSED_X2 = {
    "muster_x2_over_muster": ("muster_x2", "muster"),
    "muster_x2_over_peer": ("muster_x2", "peer"),
}
"""Muster's frontend as two processes on one port. One process uses one core and a little of another;
the peer's frontend has a thread for each core."""


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


def systems(
    peer: Path,
    model: Path,
    *,
    speed: float = 1e6,
    roomy: bool = True,
    max_model_len: int | None = None,
) -> dict[str, System]:
    """The systems by name; ``{port}`` in a frontend's command line is its port.

    Args:
        peer: The peer's virtual environment.
        model: The model's directory.
        speed: Of both mocks, against their common model of an engine's timing; from 1e6 on nothing
            is waited for.
        roomy: Whether the peer's mock gets so many cache blocks that none is ever wanted. Without,
            both mocks have a cache of the same size, and decode slower as it fills.
        max_model_len: Longest context; by default the model's own.
    """
    muster = [sys.executable, "-m", "muster.cli.main"]
    dynamo = [str(peer / "bin" / "python"), "-m"]
    planes = ["--request-plane", "tcp", "--event-plane", "zmq"]
    mock = ["--model-path", str(model), "--model-name", "bench", "--speedup-ratio", f"{speed:.6g}"]
    if max_model_len is not None:
        mock += ["--max-model-len", str(max_model_len)]
    batch = ["--max-num-seqs", "4096", "--max-num-batched-tokens", "1000000"]
    if roomy:
        batch += ["--num-gpu-blocks-override", "1000000"]
    frontend = [*muster, "frontend", "--http-host", "127.0.0.1", "--http-port", "{port}"]
    worker = [*muster, "worker", *mock]
    return {
        "muster": System("muster", frontend, worker),
        "muster_x2": System("muster_x2", [*frontend, "--processes", "2"], worker),
        "peer": System(
            "peer",
            [*dynamo, "dynamo.frontend", "--http-port", "{port}", *planes],
            [*dynamo, "dynamo.mocker", *mock, *batch, *planes],
        ),
    }


def frontend_command(system: System, port: int) -> list[str]:
    """How its frontend is started on ``port``."""
    return [part.replace("{port}", str(port)) for part in system.frontend]


@contextlib.contextmanager
def all_running(
    known: Mapping[str, System], pairs: Mapping[str, tuple[str, str]]
) -> Iterator[dict[str, Endpoint]]:
    """Several pairs of frontend and worker at once, by name, for loads that take turns."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(running(known[frontend], known[worker]))
            for name, (frontend, worker) in pairs.items()
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
            command = frontend_command(frontend_of, port)
            frontend = stack.enter_context(process(command, root, "frontend", both, logs))
            _wait_listed(port, {"worker": worker, "frontend": frontend}, logs or root)
            yield Endpoint(port, frontend, worker)


def small_free_port() -> int:
    """A free port the peer can parse: it reads the number as a signed 16-bit one."""
    for port in random.sample(range(21000, 32000), 1000):
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
    # without the last, what is not compiled yet would be again at each start: installed programs are
    left_behind = ("DYN_", "MUSTER_", "PYTHONDONTWRITEBYTECODE")
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(left_behind)
    }
    environment |= {
        "HOME": str(home),
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": str(root / "registry"),
        "DYN_REQUEST_PLANE": "tcp",
        "DYN_EVENT_PLANE": "zmq",
        "DYN_TCP_RPC_HOST": "127.0.0.1",
        "DYN_SYSTEM_HOST": "127.0.0.1",
        "DYN_LOG": "error",
        **extra,
    }
    if ctypes.util.find_library("jemalloc"):
        environment.setdefault("DYN_FRONTEND_JEMALLOC", "1")  # the peer is faster with it
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


def get_json(port: int, path: str) -> Any:
    """What a frontend answers, whatever the status.

    Raises:
        OSError: There is nobody yet.
        ValueError: That was no JSON.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    except http.client.HTTPException as error:
        raise OSError(error) from error
    finally:
        connection.close()


def model_ids(port: int) -> list[str]:
    """The models a frontend lists; none while nobody answers."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return [each["id"] for each in get_json(port, "/v1/models")["data"]]
    return []


def _wait_listed(port: int, processes: Mapping[str, subprocess.Popen[bytes]], logs: Path) -> None:
    deadline = time.monotonic() + _START_S
    # each look is a connection of its own: of several processes on the port all get one
    while not all(model_ids(port) for _ in range(_LOOKS)):
        late = time.monotonic() > deadline
        for role, each in processes.items():
            if late or each.poll() is not None:
                text = (logs / f"{role}.log").read_text()[-2000:]
                raise RuntimeError(f"no model is listed; {role} ended or is late: {text}")
        time.sleep(0.05)
