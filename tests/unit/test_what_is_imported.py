"""What a process loads before it does anything: start-up time and memory that every process pays."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = "import sys, {module}; print(*sys.modules)"
CLIENTS_AND_SERVERS = {"aiohttp", "watchfiles", "anyio", "nats", "uvicorn", "fastapi"}


def loaded_by(module: str) -> set[str]:
    command = [sys.executable, "-c", SCRIPT.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["muster.worker.serve", "muster.frontend.serve"])
def test_a_process_loads_no_http_client_and_one_http_server(module: str) -> None:
    loaded = loaded_by(module)
    assert "muster.http.server" in loaded
    assert not loaded & CLIENTS_AND_SERVERS
