"""A real etcd on loopback for tests: started, paused, killed, restarted, emptied."""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import json
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Any, Self

from muster.testing.ports import free_port
from muster.testing.waiting import wait_until

__all__ = ["EtcdServer", "shared_etcd"]


class EtcdServer:
    """One server, a cluster of its own; ``with`` starts and stops it.

    Its elections are quick, so that leases may be as short as a second. Its data is in memory where
    the system has a place for that: waiting for a disk is nothing these tests are about.

    Args:
        directory: An empty directory for its log, and its data if nowhere else.
        scheme: ``http`` or ``https``.
        options: Further options for the server.
    """

    def __init__(self, directory: Path, *options: str, scheme: str = "http") -> None:
        self._options = options
        self._log = directory / "etcd.log"
        memory = Path("/dev/shm")
        base = memory if memory.is_dir() else directory
        self._data = Path(tempfile.mkdtemp(prefix="muster-etcd-", dir=base))
        self._port, self._peer_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._scheme = scheme
        self.url = f"{scheme}://127.0.0.1:{self._port}"

    @staticmethod
    def is_installed() -> bool:
        """Whether there is an ``etcd`` to run."""
        return shutil.which("etcd") is not None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._data, ignore_errors=True)

    def start(self) -> None:
        """Start it on the data it had, and wait until it answers.

        Raises:
            TimeoutError: It does not.
        """
        peer = f"http://127.0.0.1:{self._peer_port}"
        command = [
            *("etcd", "--name", "one", "--data-dir", str(self._data / "data")),
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", f"one={peer}"),
            *("--heartbeat-interval", "10", "--election-timeout", "100"),
            *("--logger", "zap", "--log-level", "error"),
            *self._options,
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, "etcd answers", timeout_s=20)

    def _answers(self) -> bool:
        if self._scheme == "https":  # who uses it has the certificates; the port must do here
            with contextlib.closing(_connect(self._port)):
                return True
        return "version" in self.call("maintenance/status", {})

    def call(self, path: str, request: Any) -> Any:
        """The reply of its JSON gateway to ``/v3/<path>``."""
        asked = urllib.request.Request(
            f"{self.url}/v3/{path}", data=json.dumps(request).encode(), method="POST"
        )
        with urllib.request.urlopen(asked, timeout=5) as reply:
            return json.load(reply)

    def records(self, bucket: str) -> dict[str, Any]:
        """The JSON records in a bucket by key."""
        prefix = f"{bucket}/".encode()
        end = prefix[:-1] + bytes([prefix[-1] + 1])
        reply = self.call("kv/range", {"key": _base64(prefix), "range_end": _base64(end)})
        return {
            base64.b64decode(kv["key"])[len(prefix) :].decode(): json.loads(
                base64.b64decode(kv["value"])
            )
            for kv in reply.get("kvs", ())
        }

    def lease_of(self, key: str) -> int:
        """The lease a key lives by; 0 if there is none, or no such key."""
        reply = self.call("kv/range", {"key": _base64(key.encode())})
        return sum(int(kv.get("lease", 0)) for kv in reply.get("kvs", ()))

    def clear(self) -> None:
        """Remove every key."""
        everything = _base64(b"\0")
        self.call("kv/deleterange", {"key": everything, "range_end": everything})

    def kill(self) -> None:
        """End it at once; its data stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def pause(self) -> None:
        """Let it hang: connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Kill it and lose its data."""
        self.kill()
        shutil.rmtree(self._data / "data", ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


@functools.cache
def shared_etcd() -> EtcdServer | None:
    """One server for all tests of this process that only need an empty one: ``clear`` it first.

    It is started by the first call and ends with the process; ``None`` where there is no ``etcd``.
    """
    if not EtcdServer.is_installed():
        return None
    directory = tempfile.mkdtemp(prefix="muster-etcd-log-")
    server = EtcdServer(Path(directory))
    server.start()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(server.__exit__)
    return server


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=1)
