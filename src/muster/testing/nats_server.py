"""A real NATS server on loopback for tests: started, killed, restarted."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

from muster.testing.ports import free_port
from muster.testing.waiting import wait_until

__all__ = ["NatsServer"]


class NatsServer:
    """One server; ``with`` starts and stops it.

    Args:
        directory: An empty directory for its log.
        options: Further options for the server.
    """

    def __init__(self, directory: Path, *options: str) -> None:
        self._options = options
        self._log = directory / "nats.log"
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"nats://127.0.0.1:{self._port}"

    @staticmethod
    def is_installed() -> bool:
        """Whether there is a ``nats-server`` to run."""
        return shutil.which("nats-server") is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            TimeoutError: It does not.
        """
        command = ["nats-server", "-a", "127.0.0.1", "-p", str(self._port), *self._options]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._answers, "nats-server answers", timeout_s=20)

    def _answers(self) -> bool:
        with contextlib.closing(
            socket.create_connection(("127.0.0.1", self._port), timeout=1)
        ) as c:
            return c.recv(4) == b"INFO"

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
