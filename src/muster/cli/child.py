"""A child process of a command: started with a clean environment, read by its log, ended by its id."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from muster.errors import MusterError

__all__ = ["Child", "ChildError", "can_hide"]

T = TypeVar("T")


class ChildError(MusterError):
    """A child process did not do its part."""

    code = "child"


class Child:
    """``muster <arguments>`` as a process that logs JSON lines.

    Args:
        name: Shown in errors.
        arguments: The command's arguments.
        root: Directory for its home, its working directory and its log.
        environment: Settings; nothing of ours is inherited.
        blind_to: A directory the process is not to see, where the system can do that.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        root: Path,
        environment: dict[str, str],
        *,
        blind_to: Path | None = None,
    ) -> None:
        self.name = name
        home = root / f"{name}-home"
        home.mkdir(parents=True)
        self._log = root / f"{name}.log"
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("DYN_", "MUSTER_", "HF_", "XDG_"))
        }
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [
                    *(_without(blind_to) if blind_to is not None else []),
                    *[sys.executable, "-m", "muster.cli.main", *arguments],
                ],
                env=kept | {"HOME": str(home), "DYN_LOGGING_JSONL": "1"} | environment,
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def events(self) -> Iterator[dict[str, Any]]:
        """The log's JSON lines so far."""
        for line in self._log.read_text("utf-8", "replace").splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    yield event

    def wait_for(self, find: Callable[[], T | None], what: str, *, timeout_s: float) -> T:
        """The first thing ``find`` gives that is not ``None``.

        Raises:
            ChildError: The process has ended, or ``timeout_s`` is over; with the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = find()
            if found is not None:
                return found
            if self._process.poll() is not None:
                raise self.fault(f"ended with exit code {self._process.returncode} before {what}")
            if time.monotonic() > deadline:
                raise self.fault(f"{what}: not within {timeout_s:g} s")
            time.sleep(0.02)

    def find_event(self, message: str) -> dict[str, Any] | None:
        """The first log line with this message."""
        return next((event for event in self.events() if event.get("message") == message), None)

    def stop(self, *, timeout_s: float) -> int:
        """End it in order; its exit code.

        Raises:
            ChildError: It did not end in time (it is killed then).
        """
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self.fault(f"did not end within {timeout_s:g} s of SIGTERM") from None

    def kill(self) -> None:
        """End it now; a no-op if it has ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def fault(self, what: str) -> ChildError:
        """The error that says what it did wrong, with the end of its log."""
        tail = "".join(
            f"\n  | {line}" for line in self._log.read_text("utf-8", "replace").splitlines()[-15:]
        )
        return ChildError(f"the {self.name} {what}; its log ends:{tail}")


def can_hide(directory: Path, *, needed: Path) -> bool:
    """Whether a child can be started for which ``directory`` is empty: a Linux mount namespace.

    Not if that would also hide ``needed``, or Python and Muster themselves.
    """
    check = (
        "import os, sys, muster.cli.main; "
        "sys.exit(bool(os.listdir(sys.argv[1])) or not os.path.isdir(sys.argv[2]))"
    )
    probe = [*_without(directory), sys.executable, "-c", check, str(directory), str(needed)]
    try:
        return subprocess.run(probe, capture_output=True, check=False, timeout=10).returncode == 0  # noqa: S603 - our own command
    except (OSError, subprocess.TimeoutExpired):
        return False


def _without(directory: Path) -> list[str]:
    """A command's prefix that lays an empty file system over ``directory``, for that command alone."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    hide = 'mount -t tmpfs -o size=4k none "$0" && exec "$@"'
    return ["unshare", *as_root, "--mount", "--", "sh", "-c", hide, str(directory)]
