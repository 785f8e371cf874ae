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


def run(script: str, *arguments: str) -> Any:
    """The report a script prints."""
    print(f"== {script}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments], check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout)


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
        reports["request_plane"] = run("request_plane.py", *both, "--rounds", "3")
        if shutil.which("wrk"):
            reports["chat"] = run("chat.py", *both, "--rounds", "3", "--seconds", "3")
        else:
            print("chat.py left out: there is no wrk (Debian package wrk)", file=sys.stderr)
    else:
        print(f"left out, no peer at {options.peer}: request_plane.py, chat.py", file=sys.stderr)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(reports, indent=1) + "\n")
    for name, report in reports.items():
        for key, ratio in report["ratio_muster_to_peer"].items():
            ours, theirs = (report["medians"][who][key] for who in ("muster", "peer"))
            print(f"{name:<14} {key:<24} {ours:>12.1f} {theirs:>12.1f}   {ratio:5.2f} x")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
