"""How much of the machine went to others while something was measured."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from usage import cpu_seconds

__all__ = ["Others"]


class Others:
    """Watches from its making until it is asked.

    Args:
        helpers: Processes of the measurement that are still there when it is asked; those that
            ended and were waited for meanwhile count as its own anyway.
    """

    def __init__(self, helpers: Sequence[subprocess.Popen[bytes]] = ()) -> None:
        self._helpers = helpers
        self._began = time.monotonic()
        self._all, self._own = _busy_s(), self._own_s()

    def cores(self) -> float:
        """Cores that others kept busy, on average."""
        took = time.monotonic() - self._began
        return max(0.0, (_busy_s() - self._all - (self._own_s() - self._own)) / took)

    def _own_s(self) -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in used) + sum(
            map(cpu_seconds, self._helpers)
        )


def _busy_s() -> float:
    """Seconds all cores were busy since the machine started: what /proc/stat counts as no idling."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _wait, irq, soft_irq, steal = (int(word) for word in words[:8])
    return (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")
