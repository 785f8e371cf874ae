"""Workers that host files, nginx beside them, and the load generator: for benchmarks of the route.

Everything is a process on loopback, stopped by its process id.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from systems import System, free_port, process, small_free_port
from usage import cpu_seconds

__all__ = [
    "MIB",
    "Host",
    "Load",
    "available_bytes",
    "hosting",
    "model_with_files",
    "nginx",
    "nginx_missing",
    "wrk_get",
]

MIB = 1 << 20
_START_S = 120.0
_CHUNK = os.urandom(MIB)
_REPORT = """%s
done = function(summary, latency, requests)
  local bad = summary.errors
  io.write(string.format("REPORT %%d %%d %%d %%d\\n", summary.bytes, summary.requests,
    summary.duration, bad.connect + bad.read + bad.write + bad.status + bad.timeout))
end
"""


class Host(NamedTuple):
    """A process that serves files: what ``urls`` names, by each file's real name."""

    process: subprocess.Popen[bytes]
    urls: dict[str, str]
    registry: Path


class Load(NamedTuple):
    """What one run of the load generator got; ``cpu_s`` is what the server spent on it."""

    bytes_s: float
    requests_s: float
    total_bytes: int
    requests: int
    cpu_s: float


def available_bytes() -> int:
    """Memory the machine could give without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/meminfo does not say what is available")


def model_with_files(model: Path, directory: Path, sizes: dict[str, int]) -> Path:
    """A copy of ``model`` in ``directory`` with extra files of the given sizes in bytes, no two alike."""
    directory.mkdir(parents=True)
    for file in model.iterdir():
        shutil.copyfile(file, directory / file.name)
    for name, size in sizes.items():
        with (directory / name).open("wb") as output:
            for start in range(0, size, MIB):
                # every piece differs, so that neither a file system nor a cache folds them into one
                piece = b"%08d%s" % (start // MIB, name.encode())
                output.write((piece + _CHUNK)[: min(MIB, size - start)])
    return directory


@contextlib.contextmanager
def hosting(system: System, root: Path, logs: Path | None = None) -> Iterator[Host]:
    """A worker of ``system`` alone, from when its card is in the registry and a file arrives."""
    root.mkdir(parents=True, exist_ok=True)
    extra = {
        "DYN_SYSTEM_PORT": str(small_free_port()),
        "MUSTER_METADATA_MAX_EXTRA_BYTES": str(4 << 30),
        "TMPDIR": str(root),
    }
    with process(system.worker, root, "worker", extra, logs) as worker:
        registry = root / "registry"
        urls = _wait_card(worker, registry / "v1" / "mdc", root / "worker.log")
        with urllib.request.urlopen(urls["config.json"], timeout=30) as reply:
            json.load(reply)
        yield Host(worker, urls, registry)


def _wait_card(worker: subprocess.Popen[bytes], bucket: Path, log: Path) -> dict[str, str]:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if worker.poll() is not None:
            raise RuntimeError(f"the worker ended while starting: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError, ValueError):
            for record in bucket.iterdir():
                if not record.name.startswith("."):
                    return dict(_urls(json.loads(record.read_bytes())["card_json"]))
        time.sleep(0.05)
    raise RuntimeError(f"no card was published within {_START_S:g} s")


def _urls(value: Any) -> Iterator[tuple[str, str]]:
    """The name and URL of every file in a card."""
    if isinstance(value, dict):
        if "checksum" in value and "path" in value:
            yield urllib.parse.unquote(value["path"].rpartition("/")[2]), value["path"]
        else:
            for part in value.values():
                yield from _urls(part)
    elif isinstance(value, list):
        for part in value:
            yield from _urls(part)


def nginx_missing() -> str:
    """Why nginx cannot be measured; empty if it can."""
    return "" if _nginx_program() else "there is no nginx (Debian package nginx-light)"


def _nginx_program() -> str | None:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")


@contextlib.contextmanager
def nginx(model: Path, root: Path) -> Iterator[Host]:
    """One nginx worker process that serves the files of ``model``, as little configured as can be."""
    program = _nginx_program()
    if program is None:
        raise RuntimeError(nginx_missing())
    root.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = root / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(
        f"""{user} worker_processes 1; daemon off; master_process off; pid {root}/nginx.pid;
error_log {root}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;
  fastcgi_temp_path {root}/fastcgi; uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
  server {{ listen 127.0.0.1:{port}; root {model}; }}
}}
"""
    )
    command = [program, "-c", str(configuration), "-e", str(root / "nginx.log")]
    with process(command, root, "nginx", {}, None) as server:
        base = f"http://127.0.0.1:{port}/"
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline and server.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(base + "config.json", timeout=5).close()
                break
            time.sleep(0.05)
        else:
            raise RuntimeError(f"nginx did not start: {(root / 'nginx.log').read_text()[-1000:]}")
        urls = {file.name: base + urllib.parse.quote(file.name) for file in model.iterdir()}
        yield Host(server, urls, root)


def wrk_get(
    host: Host, name: str, *, clients: int, seconds: float, scratch: Path, fresh: bool = False
) -> Load:
    """Get one file over and over; bytes of unfinished replies count, failed requests raise.

    ``fresh``: on a new connection each time, instead of on connections that are used again.
    """
    script = scratch / "report.lua"
    script.write_text(_REPORT % ('wrk.headers["Connection"] = "close"' if fresh else ""))
    command = ["wrk", "-t1", f"-c{clients}", f"-d{max(1, round(seconds))}", "--timeout", "600s"]
    before = cpu_seconds(host.process)
    text = subprocess.run(
        [*command, "-s", str(script), host.urls[name]], check=True, capture_output=True, text=True
    ).stdout
    spent = cpu_seconds(host.process) - before
    line = next((each for each in text.splitlines() if each.startswith("REPORT ")), "")
    if not line or line.split()[4] != "0":
        raise RuntimeError(text)
    total, requests, duration_us = (int(word) for word in line.split()[1:4])
    took = duration_us / 1e6
    return Load(total / took, requests / took, total, requests, spent)
