"""What benchmarks need beside the systems: etcd and nats-server where the machine has them, crowds."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from systems import free_port, process

from muster.testing.etcd_server import EtcdServer

__all__ = ["NatsServer", "crowd", "etcd", "etcd_missing", "nats", "nats_missing"]

HERE = Path(__file__).resolve().parent
_START_S = 60.0


class NatsServer(NamedTuple):
    """A running nats-server."""

    url: str
    process: subprocess.Popen[bytes]


def etcd_missing() -> str:
    """Why there can be no etcd; empty if there can."""
    return "" if EtcdServer.is_installed() else "there is no etcd (Debian package etcd-server)"


@contextlib.contextmanager
def crowd(count: int, extra: dict[str, str], root: Path, *, models: int = 0) -> Iterator[None]:
    """``count`` more instances from when they are registered until the block ends.

    They are of the model that is there, or spread over so many ``models`` of other names.
    """
    command = [sys.executable, str(HERE / "crowd.py"), str(count), str(models)]
    with process(command, root, "crowd", extra, None) as others:
        log, deadline = root / "crowd.log", time.monotonic() + _START_S
        while "registered" not in log.read_text():
            if others.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the crowd did not register: {log.read_text()[-1000:]}")
            time.sleep(0.05)
        yield
        if others.poll() is not None:
            raise RuntimeError(f"the crowd ended: {log.read_text()[-1000:]}")


@contextlib.contextmanager
def etcd() -> Iterator[str]:
    """An etcd of its own until the block ends; gives its URL."""
    with tempfile.TemporaryDirectory() as scratch, EtcdServer(Path(scratch)) as server:
        yield server.url


def nats_missing() -> str:
    """Why there can be no NATS; empty if there can."""
    return "" if _nats_program() else "there is no nats-server (Debian package nats-server)"


def _nats_program() -> str | None:
    return shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")


@contextlib.contextmanager
def nats() -> Iterator[NatsServer]:
    """A nats-server of its own until the block ends."""
    program = _nats_program()
    if program is None:
        raise RuntimeError(nats_missing())
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        # Dynamo needs JetStream to start at all.
        command = [program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(root / "js")]
        with process(command, root, "nats", {}, None) as server:
            deadline = time.monotonic() + _START_S
            while time.monotonic() < deadline and server.poll() is None:
                with (
                    contextlib.suppress(OSError),
                    socket.create_connection(("127.0.0.1", port), timeout=1),
                ):
                    break
                time.sleep(0.05)
            else:
                raise RuntimeError(f"nats-server did not start: {(root / 'nats.log').read_text()}")
            yield NatsServer(f"nats://127.0.0.1:{port}", server)
