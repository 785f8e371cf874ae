"""Whether the process that wrote a file still lives, as far as this machine can know.

A marker names its process by number, by the machine's current boot and by the machine's name, so
that neither a reused number after a restart nor another host's process is taken for it.
"""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

import msgspec

__all__ = ["ProcessMark", "process_lives"]


class ProcessMark(msgspec.Struct, frozen=True, kw_only=True):
    """Which process wrote a marker file."""

    pid: int
    host: str
    boot: str

    @classmethod
    def own(cls) -> ProcessMark:
        """This process's."""
        return cls(pid=os.getpid(), host=socket.gethostname(), boot=_boot())

    @property
    def is_here(self) -> bool:
        """Whether it is of this host and boot, so that its number means something here."""
        return (self.host, self.boot) == (socket.gethostname(), _boot())

    @property
    def is_dead(self) -> bool:
        """Whether the process is known to have ended; another host's never is."""
        return self.is_here and not process_lives(self.pid)


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
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
