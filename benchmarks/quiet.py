"""How much of the machine went to others while something was measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

from usage import family_cpu_seconds

__all__ = ["Others"]

_KERNEL = 2
"""The process whose children are the kernel's threads; in a container there is none."""


class Others:
    """Watches from its making until it is asked.

    This process and all its descendants are the measurement's own, whether they still run or ended
    meanwhile. Threads of the kernel are nobody's: they write to disk what the measurement wrote, too.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._at_first = self._of_others_s()

    def cores(self) -> float:
        """Cores that others kept busy, on average."""
        took = time.monotonic() - self._began
        return max(0.0, (self._of_others_s() - self._at_first) / took)

    def _of_others_s(self) -> float:
        return _busy_s() - family_cpu_seconds(os.getpid()) - family_cpu_seconds(_KERNEL)


def _busy_s() -> float:
    """Seconds all cores were busy since the machine started: what /proc/stat counts as no idling."""
    words = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _wait, irq, soft_irq, steal = (int(word) for word in words[:8])
    return (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")
