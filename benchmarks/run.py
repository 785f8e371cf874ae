"""Every benchmark in its short form, one after the other; a line of figures each, JSON in a file.

    python benchmarks/run.py [--peer DIR] [--shared DIR] [--out FILE]

The peer is taken from ``PEER`` (``.peer`` by default) and what it needs from ``../shared``; the
benchmarks that measure it are left out, by name, where it is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PLAIN = {
    "request_plane.py": ["--rounds", "2"],
    "discovery.py": ["--rounds", "1"],
    "idle_cpu.py": ["--rounds", "1", "--seconds", "10"],
    "resolve.py": ["--rounds", "3"],
}
WITH_WRK = {
    "chat_unary.py": ["--short"],
    "chat_stream.py": ["--short"],
    "metadata_route.py": ["--rounds", "3", "--seconds", "2"],
    "worker_memory.py": ["--rounds", "1", "--seconds", "3"],
}
"""The scripts and how each is run in short; the second need the load generator."""


def run(script: str, *arguments: str) -> Any:
    """The report a script prints."""
    print(f"== {script}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments], check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout)


def show(name: str, report: Any) -> None:
    """A line for each figure: Muster's, the peer's and the ratio; what other systems got; gaps."""
    medians, ratios = report["medians"], report["ratio_muster_to_peer"]
    others = {who: row for who, row in medians.items() if who not in ("muster", "peer")}
    for key, ours in medians["muster"].items():
        theirs = medians.get("peer", {}).get(key)
        line = f"{name:<14} {key:<28} {ours:>12.4g}"
        line += f" {theirs:>12.4g}" if theirs is not None else f" {'-':>12}"
        line += f"   {ratios[key]:6.2f} x" if key in ratios else " " * 11
        line += "".join(f"   {who} {row[key]:.4g}" for who, row in others.items() if key in row)
        print(line.rstrip())
    for what, why in report.get("left_out", {}).items():
        print(f"{name:<14} left out: {what}: {why}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, default=Path(os.environ.get("PEER") or ".peer"))
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "latest.json")
    options = parser.parse_args()
    reports: dict[str, Any] = {}
    has_peer = (options.peer / "bin" / "python").exists() and options.shared.is_dir()
    if has_peer:
        both = ["--peer", str(options.peer), "--shared", str(options.shared)]
        for script, arguments in {**PLAIN, **(WITH_WRK if shutil.which("wrk") else {})}.items():
            reports[script.removesuffix(".py")] = run(script, *both, *arguments)
        if not shutil.which("wrk"):
            left = ", ".join(WITH_WRK)
            print(f"left out, no wrk (Debian package wrk): {left}", file=sys.stderr)
    else:
        left = ", ".join([*PLAIN, *WITH_WRK])
        print(f"left out, no peer at {options.peer}: {left}", file=sys.stderr)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(reports, indent=1) + "\n")
    for name, report in reports.items():
        show(name, report)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
