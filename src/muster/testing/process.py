"""A child process of a test, with a log whose end is part of what goes wrong."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

__all__ = ["Process"]

_STOP_S = 15.0


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

    def wait(self, timeout_s: float = _STOP_S) -> int:
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
        self._popen.wait(_STOP_S)
