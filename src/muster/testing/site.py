"""A small site on loopback for tests: real processes of Muster, and of a real Dynamo, on one registry.

Every process has a home of its own. They are stopped by process id when the site is closed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from muster.testing.api import Api
from muster.testing.ports import free_port
from muster.testing.process import Process
from muster.testing.waiting import wait_until

__all__ = ["Site"]


class Site:
    """One registry and the processes on it.

    Args:
        root: An empty directory for the registry, homes and logs.
        peer: Virtual environment of a real Dynamo, for the ``dynamo_`` methods.
    """

    def __init__(self, root: Path, peer: Path | None = None) -> None:
        self.root = root
        self.registry = root / "registry"
        self.peer = peer
        self.processes: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.is_running():
                process.signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait()
            except TimeoutError:
                process.kill()

    def home(self, name: str) -> Path:
        """The home directory of the process of this name."""
        return self.root / f"home-{name}"

    def start(self, name: str, command: list[str], **environment: str) -> Process:
        """Start a process; ``environment`` adds to what all processes of the site have."""
        home = self.home(name)
        home.mkdir(exist_ok=True)
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("DYN_", "MUSTER_", "HF_", "XDG_"))
        }
        ours = {
            "HOME": str(home),
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": str(self.registry),
            "DYN_REQUEST_PLANE": "tcp",
            "DYN_EVENT_PLANE": "zmq",
            "DYN_TCP_RPC_HOST": "127.0.0.1",
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
            "DYN_SYSTEM_HOST": "127.0.0.1",
        }
        process = Process(name, command, kept | ours | environment, self.root / f"{name}.log")
        self.processes.append(process)
        return process

    def records(self, bucket: str) -> dict[str, Any]:
        """The JSON records in a bucket by file name."""
        directory = self.registry / bucket
        found = {}
        if directory.is_dir():
            for path in directory.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if not path.name.startswith(".tmp_"):
                        found[path.name] = json.loads(path.read_bytes())
        return found

    # -- Muster ------------------------------------------------------------------------------

    def worker(
        self, model: Path, name: str, *options: str, role: str = "worker", **env: str
    ) -> Process:
        """A ``muster worker`` of the model in ``model`` under ``name``; returns once registered."""
        command = [sys.executable, "-m", "muster.cli.main", "worker", "--model-path", str(model)]
        process = self.start(role, [*command, "--model-name", name, *options], **env)
        self._wait_for(process, lambda: "serving '" in process.text(), "worker registered")
        return process

    def frontend(self, *options: str, role: str = "frontend", **env: str) -> Api:
        """A ``muster frontend``; returns once it listens."""
        api = self.start_frontend(*options, role=role, **env)
        self._wait_for(api.process, lambda: api.get("/v1/models"), "frontend listens")
        return api

    def start_frontend(self, *options: str, role: str = "frontend", **env: str) -> Api:
        """A ``muster frontend``; returns at once."""
        port = free_port()
        command = [sys.executable, "-m", "muster.cli.main", "frontend", "--http-host", "127.0.0.1"]
        process = self.start(role, [*command, "--http-port", str(port), *options], **env)
        return Api(process, port)

    # -- Dynamo ------------------------------------------------------------------------------

    @property
    def _dynamo(self) -> str:
        if self.peer is None:
            raise ValueError("this site has no peer")
        return str(self.peer / "bin" / "python")

    def dynamo_worker(
        self, model: Path, name: str, *options: str, role: str = "mocker", **env: str
    ) -> Process:
        """A ``dynamo.mocker`` without waiting, its status server on; returns once registered."""
        command = [self._dynamo, "-m", "dynamo.mocker", "--model-path", str(model)]
        command += ["--model-name", name, "--request-plane", "tcp", "--event-plane", "zmq"]
        if "--speedup-ratio" not in options:
            command += ["--speedup-ratio", "1000000"]
        before = len(self.records("v1/mdc"))
        environment = {"DYN_SYSTEM_PORT": str(free_port()), "DYN_LOG": "warn"} | env
        process = self.start(role, [*command, *options], **environment)
        self._wait_for(process, lambda: len(self.records("v1/mdc")) > before, "mocker registered")
        return process

    def dynamo_frontend(self, *options: str, role: str = "dynamo-frontend", **env: str) -> Api:
        """A ``dynamo.frontend``; returns once it listens."""
        port = free_port()
        command = [self._dynamo, "-m", "dynamo.frontend", "--http-port", str(port)]
        command += ["--request-plane", "tcp", "--event-plane", "zmq"]
        process = self.start(role, [*command, *options], **({"DYN_LOG": "warn"} | env))
        return self._listening(process, port)

    def dynamo_script(self, code: str, *, role: str, **env: str) -> Process:
        """A script run by Dynamo's Python."""
        path = self.root / f"script_{role}.py"
        path.write_text(code)
        return self.start(role, [self._dynamo, str(path)], **({"DYN_LOG": "error"} | env))

    def script(self, code: str, *, role: str, **env: str) -> Process:
        """A script run by this Python."""
        path = self.root / f"script_{role}.py"
        path.write_text(code)
        return self.start(role, [sys.executable, str(path)], **env)

    def _listening(self, process: Process, port: int) -> Api:
        api = Api(process, port)
        self._wait_for(process, lambda: api.get("/v1/models"), "frontend listens")
        return api

    def _wait_for(self, process: Process, check: Callable[[], Any], what: str) -> None:
        def alive_and_checked() -> Any:
            if not process.is_running():
                raise RuntimeError(f"{process.name} ended early:\n{process.text()[-3000:]}")
            return check()

        try:
            wait_until(alive_and_checked, what)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{process.text()[-3000:]}") from None
