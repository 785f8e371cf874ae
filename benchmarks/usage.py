"""What processes use, descendants and all: CPU time and memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

__all__ = ["cpu_seconds", "family_cpu_seconds", "memory_mb", "rss_mb"]


def _family(pid: int) -> list[int]:
    """The process and all its living descendants; none where it is gone."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    found += _family(int(child))
    return found


def family_cpu_seconds(pid: int) -> float:
    """User and system time a process and its descendants have used so far.

    Descendants that ended count from when their parent waited for them; before, they are still there.
    """
    ticks = 0
    for each in _family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            # utime, stime, and the same of children that were waited for: see proc(5)
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_seconds(of: subprocess.Popen[bytes]) -> float:
    """The same of a process that was started here."""
    return family_cpu_seconds(of.pid)


def memory_mb(of: subprocess.Popen[bytes]) -> dict[str, float]:
    """Memory of a process and its descendants in MB (2^20): ``rss``, and ``pss``, where what
    processes share counts in parts."""
    found = {"rss": 0.0, "pss": 0.0}
    for pid in _family(of.pid):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, amount = line.partition(":")
            if name.lower() in found:
                found[name.lower()] += int(amount.split()[0]) / 1024
    return found


def rss_mb(of: subprocess.Popen[bytes]) -> float:
    """Resident memory in MB."""
    return memory_mb(of)["rss"]
