"""``muster top`` over a real frontend: once, in lines, on a terminal, and without a frontend."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from muster.frontend.guard.keys import key_line, new_key
from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model

pytestmark = pytest.mark.timeout(120)

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "TERM": "xterm-256color",
    "COLUMNS": "100", "LINES": "40",
}  # fmt: skip


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "muster.cli.main", "top", *options]


def top(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options), capture_output=True, text=True, check=False, timeout=60, env=ENVIRONMENT
    )


class Lines:
    """A process whose lines are read one at a time, with a limit."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            command(*options), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
        self._watchdog = threading.Timer(60, self.process.kill)
        self._watchdog.start()

    def next(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "it ended, or was too slow"
        return json.loads(line)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        assert self.process.stdout is not None
        self.process.stdout.close()
        code = self.process.wait(20)
        self._watchdog.cancel()
        return code


def test_once_says_what_is_served_and_what_is_refused_and_why(
    site: Site, model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_tiny_model(other, context_length=1024)
    site.worker(model, "tiny")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    site.worker(other, "tiny", role="second")
    deadline = time.monotonic() + 30
    while frontend.get("/health")["status"] != "degraded" and time.monotonic() < deadline:
        time.sleep(0.05)

    found = top("--frontend", frontend.url, "--once")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("degraded, up ")
    assert "1 of 1 models served" in found.stdout
    assert "is refused (incompatible)" in found.stdout
    assert "context_length: 2048 → 1024" in found.stdout
    assert "cache " in found.stdout
    assert "\x1b" not in found.stdout
    row = next(line for line in found.stdout.splitlines() if line.startswith("tiny  "))
    assert row.split()[1:3] == ["serving", "1/2"]

    found = top("--frontend", frontend.url, "--once", "--json")
    state = json.loads(found.stdout)
    (view,) = state["models"].values()
    assert (view["model"], view["state"]) == ("tiny", "serving")
    assert [cohort["state"] for cohort in view["cohorts"]] == ["serving", "refused"]


def test_lines_of_json_go_on_until_a_signal(site: Site) -> None:
    frontend = site.frontend()
    lines = Lines("--frontend", frontend.url, "--json")
    assert lines.next()["event"] == "snapshot"
    assert lines.next()["event"] == "change"
    assert lines.end(signal.SIGTERM) == 143


def test_a_frontend_that_comes_back_is_followed_again(site: Site) -> None:
    first = site.frontend()
    url, port = first.url, first.url.rpartition(":")[2]
    lines = Lines("--frontend", url, "--json")
    assert lines.next()["event"] == "snapshot"
    first.process.stop()
    site.start_frontend("--http-port", port, role="again")
    while lines.next()["event"] != "snapshot":
        pass
    assert lines.end(signal.SIGINT) == 130


def test_on_a_terminal_it_has_a_screen_of_its_own_and_gives_it_back_on_ctrl_c(
    site: Site, model: Path
) -> None:
    site.worker(model, "tiny")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    control, terminal = pty.openpty()
    process = subprocess.Popen(
        command("--frontend", frontend.url),
        stdin=terminal, stdout=terminal, stderr=terminal, env=ENVIRONMENT, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)

    def read_until(wanted: bytes) -> bytes:
        seen, deadline = b"", time.monotonic() + 30
        while wanted not in seen and time.monotonic() < deadline:
            if select.select([control], [], [], 0.2)[0]:
                seen += os.read(control, 65536)
        assert wanted in seen, seen[-2000:]
        return seen

    seen = read_until(b"tiny")
    assert b"\x1b[?1049h" in seen, "the other screen"
    process.send_signal(signal.SIGINT)
    read_until(b"\x1b[?1049l")
    assert process.wait(20) == 130
    os.close(control)


def test_a_frontend_that_does_not_answer_is_named() -> None:
    found = top("--frontend", "http://127.0.0.1:1", "--once")
    assert found.returncode == 1
    assert "no frontend answers at http://127.0.0.1:1" in found.stderr
    assert "hint: start one with `muster frontend`" in found.stderr
    assert "Traceback" not in found.stderr
    assert found.stdout == ""
    assert top("--frontend", "nowhere").returncode == 2


def test_what_wants_a_key_gets_it_from_a_file(site: Site, tmp_path: Path) -> None:
    key = new_key()
    keys = tmp_path / "keys"
    keys.write_text(f"{key_line('ops', key)} admin\n")
    keys.chmod(0o600)
    frontend = site.start_frontend(MUSTER_API_KEYS_FILE=str(keys))
    deadline = time.monotonic() + 30
    while "listening on" not in frontend.process.text() and time.monotonic() < deadline:
        time.sleep(0.05)
    found = top("--frontend", frontend.url, "--once")
    assert found.returncode == 1
    assert "wants an admin's key (status 401)" in found.stderr
    (tmp_path / "mine").write_text(f"{key}\n")
    found = top("--frontend", frontend.url, "--once", "--key-file", str(tmp_path / "mine"))
    assert found.returncode == 0, found.stderr
    assert "models served" in found.stdout
    assert top("--frontend", frontend.url, "--key-file", str(tmp_path / "none")).returncode == 2
