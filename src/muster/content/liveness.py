"""Whether the process that wrote a file still lives, as far as this machine can know.

A marker names its process by number, by when that process began, and by the host, boot and set of
process numbers (a container has its own) in which the number means anything. So neither a number
used again nor another container's or host's process is taken for it.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
from pathlib import Path

import msgspec

__all__ = ["ProcessMark", "process_lives"]

_PROC = Path("/proc")


class ProcessMark(msgspec.Struct, frozen=True, kw_only=True):
    """Which process wrote a marker file.

    Attributes:
        pid: Its number.
        host: The host's name.
        boot: The host's current boot; empty where the system does not say.
        numbers: The set of process numbers that ``pid`` belongs to; empty likewise.
        began: When the process began, in the system's own unit; empty likewise.
    """

    pid: int
    host: str
    boot: str
    numbers: str = ""
    began: str = ""

    @classmethod
    def own(cls) -> ProcessMark:
        """This process's; what is read for it is read once, by a forked child again."""
        return _mark(os.getpid())

    @property
    def is_here(self) -> bool:
        """Whether its number means something to this process.

        Linux says everything that takes; where it says less, nothing is sure.
        """
        if sys.platform == "linux" and not (self.boot and self.numbers):
            return False
        return (self.host, self.boot, self.numbers) == (socket.gethostname(), _boot(), _numbers())

    @property
    def is_dead(self) -> bool:
        """Whether the process is known to have ended; one that is not here never is."""
        if not self.is_here:
            return False
        if not process_lives(self.pid):
            return True
        now = _began(self.pid)
        return bool(self.began and now) and now != self.began


@functools.cache
def _mark(pid: int) -> ProcessMark:
    host = socket.gethostname()
    return ProcessMark(pid=pid, host=host, boot=_boot(), numbers=_numbers(), began=_began(pid))


def process_lives(pid: int) -> bool:
    """Whether a process of that number runs on this machine, as far as we may know."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


@functools.cache
def _boot() -> str:
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _numbers() -> str:
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _began(pid: int) -> str:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return ""
    # proc(5): the name, in parentheses, may have any character; the start is the 22nd field
    fields = text.rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""
