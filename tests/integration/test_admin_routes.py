"""The admin routes: who is let in, where they are, how they are turned off, and commands with a key."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from muster.config.settings import GuardSettings
from muster.frontend.guard.keys import key_line, new_key
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel
from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until

DATA = ("/busy_threshold", "/v1/muster/models", "/v1/muster/live")
PAGE = "/dashboard"
OPEN = ("/health", "/live", "/metrics")
USER, ADMIN = new_key(), new_key()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_tiny_model(tmp_path)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"{key_line('alice', USER)}\n{key_line('ops', ADMIN)} admin\n")
    path.chmod(0o600)
    return path


def statuses(
    directory: Path, guard: GuardSettings, *paths: str, key: str = "", admin_port: bool = False
) -> list[int]:
    """What these paths answer to a GET."""

    async def test() -> list[int]:
        async with running_frontend(ScriptedModel(directory), guard=guard) as frontend:
            port = frontend.admin_port if admin_port else frontend.port
            headers = {"x-api-key": key} if key else {}
            found = []
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                for path in paths:
                    async with session.get(path, headers=headers) as reply:
                        found.append(reply.status)
            return found

    return run(test())


@pytest.mark.parametrize(
    ("key", "status"), [("", 401), (USER, 403), (ADMIN, 200)], ids=["none", "user", "admin"]
)
def test_with_keys_all_that_have_data_ask_for_an_admins(
    directory: Path, keys: Path, key: str, status: int
) -> None:
    guard = GuardSettings(keys_file=keys)
    assert statuses(directory, guard, *DATA, key=key) == [status] * len(DATA)
    assert statuses(directory, guard, PAGE, *OPEN, key=key) == [200] * 4


def test_without_keys_they_are_open(directory: Path) -> None:
    assert statuses(directory, GuardSettings(), *DATA, PAGE) == [200] * 4


def test_on_a_port_of_their_own_the_service_has_them_no_more(directory: Path) -> None:
    guard = GuardSettings(admin_port=0)
    assert statuses(directory, guard, *DATA, PAGE) == [404] * 4
    assert statuses(directory, guard, *DATA, PAGE, *OPEN, admin_port=True) == [200] * 7


@pytest.mark.parametrize("admin_port", [None, 0])
def test_turned_off_nobody_has_them(directory: Path, keys: Path, admin_port: int | None) -> None:
    guard = GuardSettings(disable_admin=True, admin_port=admin_port, keys_file=keys)
    assert statuses(directory, guard, *DATA, PAGE, key=ADMIN) == [404] * 4
    assert statuses(directory, guard, "/v1/models", *OPEN, key=USER) == [200] * 4


def muster(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "muster.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **env},
    )


@pytest.mark.timeout(150)
def test_commands_show_their_key_from_a_file_or_the_environment(
    site: Site, keys: Path, model: Path, tmp_path: Path
) -> None:
    with_keys = site.start_frontend(MUSTER_API_KEYS_FILE=str(keys))
    wait_until(lambda: "listening on" in with_keys.process.text(), "the frontend listens")
    file = tmp_path / "mine"
    file.write_text(f"{ADMIN}\n")
    at, environ = ("--frontend", with_keys.url), {"DYN_FILE_KV": str(tmp_path / "registry")}
    (tmp_path / "registry").mkdir(exist_ok=True)

    told = muster("ls", *at, **environ)
    assert told.returncode == 0
    assert "asks for an admin's key (status 401)" in told.stderr
    for given, more in (
        (("--api-key-file", str(file)), {}),
        ((), {"MUSTER_API_KEY": ADMIN}),
    ):
        told = muster("ls", *at, *given, **environ, **more)
        assert told.returncode == 0
        assert "key" not in told.stderr
        told = muster("top", *at, "--once", *given, **environ, **more)
        assert told.returncode == 0, told.stderr
        told = muster("model", "why", "tiny", *at, *given, "--json", **environ, **more)
        assert '"frontend": "starting"' in told.stdout or '"frontend": "healthy"' in told.stdout
    told = muster("model", "why", "tiny", *at, "--json", **environ)
    assert "asks for an admin's key" in told.stdout
    told = muster("ls", *at, **environ, MUSTER_API_KEY=USER)
    assert "asks for an admin's key (status 403)" in told.stderr
    file.write_text("\n")
    assert muster("ls", *at, "--api-key-file", str(file), **environ).returncode == 2


def test_clients_of_the_admin_port_that_do_not_read_are_counted(directory: Path) -> None:
    async def test() -> None:
        guard = GuardSettings(admin_port=0, write_timeout_s=1.0)
        async with (
            running_frontend(ScriptedModel(directory), guard=guard) as frontend,
            aiohttp.ClientSession(f"http://127.0.0.1:{frontend.port}") as session,
        ):
            _, writer = await asyncio.open_connection("127.0.0.1", frontend.admin_port, limit=1)
            writer.transport.pause_reading()  # type: ignore[attr-defined] # is a ReadTransport, too
            asking = asyncio.create_task(_ask_on(writer))
            try:
                async with asyncio.timeout(60):
                    while True:
                        async with session.get("/metrics") as reply:
                            if "muster_http_slow_readers_total 1.0" in await reply.text():
                                break
                        await asyncio.sleep(0.1)
            finally:
                asking.cancel()
                writer.close()

    run(test())


async def _ask_on(writer: asyncio.StreamWriter) -> None:
    """Ask again and again, whatever is answered, until the connection is cut."""
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
            await writer.drain()
            await asyncio.sleep(0.01)
