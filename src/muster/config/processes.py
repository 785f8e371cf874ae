"""Settings of a frontend that is several processes."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from muster.config.setting import setting

__all__ = ["ProcessesSettings", "count_cpus", "process_count"]

_MOST = 256


def count_cpus() -> int:
    """How many CPUs there are for this process; all of the machine's where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def process_count(text: str) -> int:
    """Read a number of processes; ``auto`` is as many as there are CPUs for this process.

    Raises:
        ValueError: For anything else.
    """
    if text.strip().lower() != "auto":
        return int(text)
    return count_cpus()


def _is_count(value: Any) -> str | None:
    return None if 1 <= value <= _MOST else f"must be between 1 and {_MOST}, or auto"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProcessesSettings:
    """How many processes one frontend is."""

    count: int = setting(
        1,
        env="MUSTER_PROCESSES",
        help="How many processes of a frontend share its port; auto for one a CPU. Linux only, if "
        "more than one.",
        parse=process_count,
        check=_is_count,
    )
