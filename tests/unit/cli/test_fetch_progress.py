"""Progress bars: on a real pseudo-terminal, and on a pipe."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time

SCRIPT = """
import logging, sys, time
from muster import log
from muster.cli.fetch_progress import FetchBars
from muster.digest import Digest
from muster.model.fetch.resolved import FetchProgress, FetchState
from muster.model.identity import FileRole

log.configure()

def step(state, done, place="http://h/tokenizer.json", reason=""):
    return FetchProgress(name="tokenizer.json", role=FileRole.TOKENIZER, digest=Digest.of(b""),
                         state=state, done_bytes=done, total_bytes=100, seconds=0.1, place=place,
                         reason=reason)

with FetchBars() as bars:
    bars.update("acme/[red]m", step(FetchState.FETCHING, 0))
    time.sleep(0.3)
    logging.getLogger("muster.test").info("a line of the log" + " that is long" * 20)
    bars.update("acme/[red]m", step(FetchState.FETCHING, 50))
    time.sleep(0.3)
    bars.update("acme/[red]m", step(FetchState.VERIFIED, 100))
    bars.update("acme/other", step(FetchState.FAILED, 10, reason="404\\x1b[2J"))
logging.getLogger("muster.test").info("after the bars")
"""


def on_a_terminal() -> str:
    primary, replica = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.DEVNULL,
        stdout=replica,
        stderr=replica,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    ) as process:
        os.close(replica)
        seen = b""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if select.select([primary], [], [], 0.2)[0]:
                try:
                    data = os.read(primary, 65536)
                except OSError:  # the other end is closed
                    break
                if not data:
                    break
                seen += data
        process.wait(10)
    os.close(primary)
    return seen.decode()


def test_a_terminal_shows_bars_and_whole_lines() -> None:
    seen = on_a_terminal()
    assert "acme/[red]m  tokenizer.json" in seen
    assert "/100 bytes" in seen
    assert "verified" in seen
    assert "404\\x1b[2J" in seen  # spelled out, not acted upon
    long = "a line of the log" + " that is long" * 20
    for line in (long, "after the bars"):
        assert any(part.rstrip().endswith(line) for part in seen.split("\r\n")), line


def test_a_pipe_gets_the_log_alone() -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=30
    )
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert "a line of the log" in lines[0]
