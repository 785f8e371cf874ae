"""What every report has: medians over rounds, and ratios to the peer."""

from __future__ import annotations

import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Rounds", "report"]

Rounds = Mapping[str, Sequence[Mapping[str, float]]]
"""Figures by name, one mapping a round, by system."""
_CONDITIONS = frozenset({"others_cores"})
"""Figures that say how it was measured: nothing to set beside another system's."""


def report(
    benchmark: str, rounds: Rounds, *, ratios_to: Mapping[str, str], left_out: Mapping[str, str]
) -> dict[str, Any]:
    """A report; a figure counts where every round of a system has it.

    Args:
        benchmark: Its name.
        rounds: What was measured; systems without a round are passed over.
        ratios_to: By system, the one its figures are set beside. ``muster`` beside ``peer`` is in
            ``ratio_muster_to_peer``, the others in ``ratios``.
        left_out: What was not measured, and why.
    """
    medians = {
        who: {
            key: statistics.median(row[key] for row in rows)
            for key in rows[0]
            if all(key in row for row in rows)
        }
        for who, rows in rounds.items()
        if rows
    }
    ratios = {
        f"{who}_to_{other}": {
            key: value / medians[other][key]
            for key, value in medians[who].items()
            if medians[other].get(key) and key not in _CONDITIONS
        }
        for who, other in ratios_to.items()
        if who in medians and other in medians
    }
    return {
        "benchmark": benchmark,
        "command": sys.argv,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "medians": medians,
        "ratio_muster_to_peer": ratios.pop("muster_to_peer", {}),
        "ratios": ratios,
        "left_out": dict(left_out),
        "rounds": rounds,
    }
