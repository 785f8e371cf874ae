"""A small site on loopback for tests: real processes of Muster, and of a real Dynamo, on one registry.

Every process has a home of its own and a log whose end is part of what goes wrong. They are stopped
by process id when the site is closed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

__all__ = ["Api", "Process", "Site", "free_port", "wait_until"]

START_S = 60.0
STOP_S = 15.0


_PORTS = itertools.cycle(range(20000, 32000))
"""Below 32768: Dynamo reads some as signed 16-bit numbers."""
_OWN_PORTS = itertools.islice(_PORTS, os.getpid() * 97 % 12000, None)


def free_port() -> int:
    """A port nobody listens on just now, and that this process has not given out lately."""
    for port in itertools.islice(_OWN_PORTS, 12000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port from 20000 to 31999")


def wait_until(check: Callable[[], Any], what: str, *, timeout_s: float = START_S) -> Any:
    """The first true thing ``check`` gives; ``TimeoutError`` naming ``what`` if that takes too long.

    ``check`` may raise ``OSError`` while what it asks is not there yet.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            found = check()
            if found:
                return found
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not within {timeout_s:g} s")


class Process:
    """A child process with a log."""

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def text(self) -> str:
        """All it has written."""
        return self.log.read_text("utf-8", "replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._popen.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Its exit code (negative: the signal that ended it).

        Raises:
            TimeoutError: It still runs; its log's end is in the message.
        """
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            end = self.text()[-2000:]
            raise TimeoutError(f"{self.name} runs on after {timeout_s:g} s:\n{end}") from None

    def stop(self) -> int:
        """End it with SIGTERM; its exit code."""
        if self.is_running():
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._popen.kill()
        self._popen.wait(STOP_S)


class Api:
    """A frontend's HTTP API."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        """The JSON of a page, whatever its status."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def models(self) -> list[str]:
        """Ids of the models listed."""
        return [model["id"] for model in self.get("/v1/models")["data"]]

    def wait_for_model(self, name: str) -> None:
        """Wait until ``name`` is listed."""
        self._wait(lambda: name in self.models(), f"model {name!r} listed")

    def wait_for_no_model(self, name: str, *, timeout_s: float = START_S) -> None:
        """Wait until ``name`` is not listed any more."""
        self._wait(lambda: name not in self.models(), f"model {name!r} gone", timeout_s)

    def _wait(self, check: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
        try:
            wait_until(check, what, timeout_s=timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.process.text()[-3000:]}") from None

    def chat(self, model: str, **more: Any) -> Any:
        """The reply to a short chat."""
        with self._post("/v1/chat/completions", _chat(model, more)) as reply:
            return json.load(reply)

    def stream(self, model: str, **more: Any) -> Iterator[str]:
        """What follows ``data: `` in each event of a streamed chat, as it comes."""
        with self._post("/v1/chat/completions", _chat(model, more | {"stream": True})) as reply:
            for line in reply:
                if line.startswith(b"data: "):
                    yield line[6:].decode().rstrip("\r\n")

    def _post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(  # the address is ours
            self.url + path,
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        return urllib.request.urlopen(request, timeout=30)


def _chat(model: str, more: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Say something about the sea."}]
    return {"model": model, "messages": messages, "max_tokens": 16} | more


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
