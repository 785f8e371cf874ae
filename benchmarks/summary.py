"""What every report has: how it was measured, every round, medians, ratios to the peer, targets."""

from __future__ import annotations

import ctypes.util
import datetime
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from muster._version import __version__

__all__ = ["Rounds", "Target", "conditions", "print_report", "report", "table"]

Rounds = Mapping[str, Sequence[Mapping[str, float]]]
"""Figures by name, one mapping a round, by system."""
_CONDITIONS = ("others_cores", "client_cores", "late_p99_ms")
"""Ends of names of figures that say how it was measured: nothing to set beside another system's."""


class Target(NamedTuple):
    """What a figure is meant to reach.

    Attributes:
        key: The figure.
        limit: The bound.
        at_least: Whether more is better; otherwise the figure may be at most ``limit``.
        absolute: Whether Muster's own figure is meant, not its ratio to the peer's.
        pair: Whose ratio: ``who_to_other``.
    """

    key: str
    limit: float
    at_least: bool = False
    absolute: bool = False
    pair: str = "muster_to_peer"


def report(
    benchmark: str,
    rounds: Rounds,
    *,
    ratios_to: Mapping[str, str],
    left_out: Mapping[str, str] | None = None,
    targets: Sequence[Target] = (),
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A report; a figure counts where every round of a system has it.

    ``spread`` is from the least to the greatest, as a part of the median.

    Args:
        benchmark: Its name.
        rounds: What was measured; systems without a round are passed over.
        ratios_to: By system, the one its figures are set beside. ``muster`` beside ``peer`` is in
            ``ratio_muster_to_peer``, the others in ``ratios``.
        left_out: What was not measured, and why.
        targets: What the figures are meant to reach; those not measured are passed over.
        about: More about how it was measured.
    """
    medians = _each(rounds, statistics.median)
    ratios = {
        f"{who}_to_{other}": {
            key: value / medians[other][key]
            for key, value in medians[who].items()
            if medians[other].get(key) and not key.endswith(_CONDITIONS)
        }
        for who, other in ratios_to.items()
        if who in medians and other in medians
    }
    judged = [_judge(target, medians, ratios) for target in targets]
    return {
        "benchmark": benchmark,
        "command": _command(),
        **conditions(),
        **(about or {}),
        "medians": medians,
        "spread": _each(rounds, _spread),
        "ratio_muster_to_peer": ratios.pop("muster_to_peer", {}),
        "ratios": ratios,
        "targets": [each for each in judged if each],
        "left_out": dict(left_out or {}),
        "rounds": rounds,
    }


def print_report(made: Mapping[str, Any]) -> None:
    """The report as JSON on the standard output, and as a table on the other."""
    print(json.dumps(made, indent=1))
    print("\n".join(table(made)), file=sys.stderr, flush=True)


def table(made: Mapping[str, Any]) -> list[str]:
    """A line for each figure (medians, spreads, ratio), each target and each thing left out."""
    medians, spread = made["medians"], made.get("spread", {})
    names = list(medians)
    ratios = dict(made.get("ratios", {}))
    if made.get("ratio_muster_to_peer"):
        ratios = {"muster_to_peer": made["ratio_muster_to_peer"], **ratios}
    keys = list(dict.fromkeys(key for row in medians.values() for key in row))
    width = max((len(key) for key in keys), default=0)
    head = [f"{'':{width}}", *(f"{name:>20}" for name in names), *(f"{n:>18}" for n in ratios)]
    lines = ["  ".join(head).rstrip()]
    for key in keys:
        cells = [f"{key:{width}}"]
        for name in names:
            value, spreads = medians[name].get(key), spread.get(name, {})
            shown = "-" if value is None else f"{value:.4g} ±{spreads.get(key, 0) * 50:.0f}%"
            cells.append(f"{shown:>20}")
        cells += [f"{row[key]:>17.3g}x" if key in row else " " * 18 for row in ratios.values()]
        lines.append("  ".join(cells).rstrip())
    for each in made.get("targets", ()):
        sign = ">=" if each["at_least"] else "<="
        unit = "" if each["absolute"] else "x"
        verdict = "met" if each["met"] else "MISSED"
        what = each["key"] if each["pair"] == "muster_to_peer" else f"{each['key']} {each['pair']}"
        line = f"{verdict:<7} {what}: {each['value']:.3g}{unit}, wanted {sign} {each['limit']:g}"
        lines.append(line + unit)
    lines += [f"left out: {what}: {why}" for what, why in made.get("left_out", {}).items()]
    return lines


def conditions() -> dict[str, Any]:
    """The machine and the versions of what is measured, and how the peer's allocator is."""
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "versions": {"muster": __version__, **_peer_version(), **_wrk_version()},
        "peer_settings": {
            "DYN_LOG": "error",
            "DYN_FRONTEND_JEMALLOC": bool(ctypes.util.find_library("jemalloc")),
        },
    }


def _command() -> str:
    """How the script was called; where the peer and the model are does not matter."""
    words = [f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]
    for option, shown in (("--peer", "DIR"), ("--shared", "../shared"), ("--grpc", "DIR")):
        if option in words[:-1]:
            words[words.index(option) + 1] = shown
    return shlex.join(["python", *words])


def _each(rounds: Rounds, of: Callable[[list[float]], float]) -> dict[str, dict[str, float]]:
    return {
        who: {
            key: of([row[key] for row in rows])
            for key in rows[0]
            if all(key in row for row in rows)
        }
        for who, rows in rounds.items()
        if rows
    }


def _spread(values: Sequence[float]) -> float:
    """From the least to the greatest, as a part of the median."""
    middle = statistics.median(values)
    return (max(values) - min(values)) / middle if middle else 0.0


def _judge(
    target: Target,
    medians: Mapping[str, Mapping[str, float]],
    ratios: Mapping[str, Mapping[str, float]],
) -> dict[str, Any] | None:
    where = medians.get("muster", {}) if target.absolute else ratios.get(target.pair, {})
    value = where.get(target.key)
    if value is None:
        return None
    met = value >= target.limit if target.at_least else value <= target.limit
    return {**target._asdict(), "value": value, "met": met}


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _peer_version() -> dict[str, str]:
    """The peer's version, if ``--peer`` names an installation."""
    if "--peer" not in sys.argv:
        return {}
    python = Path(sys.argv[sys.argv.index("--peer") + 1]) / "bin" / "python"
    asked = "from importlib.metadata import version; print(version('ai-dynamo-runtime'))"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    return {"peer": done.stdout.strip()} if done.returncode == 0 else {}


def _wrk_version() -> dict[str, str]:
    if not shutil.which("wrk"):
        return {}
    said = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return {"wrk": (said.stdout or said.stderr).split("[", 1)[0].removeprefix("wrk ").strip()}
