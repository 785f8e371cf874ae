"""Servers that benchmarks need beside the systems, where the machine has them: etcd, nats-server."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from systems import free_port, process

from muster.testing.etcd_server import EtcdServer

__all__ = ["NatsServer", "etcd", "etcd_missing", "nats", "nats_missing"]

_START_S = 20.0


class NatsServer(NamedTuple):
    """A running nats-server."""

    url: str
    process: subprocess.Popen[bytes]


def etcd_missing() -> str:
    """Why there can be no etcd; empty if there can."""
    return "" if EtcdServer.is_installed() else "there is no etcd (Debian package etcd-server)"


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
