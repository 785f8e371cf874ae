"""Every benchmark of the suite, one after the other; tables as they come, JSON and a page at the end.

    python benchmarks/run.py [--peer DIR] [--shared DIR] [--full] [--rounds N] [--only NAME,NAME]

The short form is one round of short loads: it shows that everything works, and what is far off.
``--full`` runs each script as it runs by itself. ``--only`` runs some; what the file of results has
of the others stays. The peer is taken from ``PEER`` (``.peer`` by default) and the model from
``../shared``; nothing is run where either is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from page import write_page

HERE = Path(__file__).resolve().parent
SUITE = {
    "chat_unary": True,
    "chat_stream": True,
    "chat_cross": True,
    "growth": True,
    "first_token": False,
    "frontend_cpu": True,
    "request_plane": False,
    "metadata_route": True,
    "worker_memory": True,
    "resolve": False,
    "start": False,
    "memory": True,
    "long_prompts": False,
    "large_fleet": False,
    "idle_cpu": False,
    "discovery": False,
}
"""The scripts in the order of the page, and whether each needs the load generator wrk."""


def run(name: str, arguments: list[str]) -> dict[str, Any]:
    """The report a script prints."""
    print(f"== {name} {' '.join(arguments)}", file=sys.stderr, flush=True)
    began = time.monotonic()
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return {**json.loads(done.stdout), "took_s": round(time.monotonic() - began)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", type=Path, default=Path(os.environ.get("PEER") or ".peer"))
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "latest.json")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "benchmarks.md")
    parser.add_argument("--full", action="store_true", help="as each script runs by itself")
    parser.add_argument("--rounds", type=int, help="of each script, instead of its own number")
    parser.add_argument("--only", default=",".join(SUITE), help="names, with commas between")
    options = parser.parse_args()
    if not (options.peer / "bin" / "python").exists() or not options.shared.is_dir():
        print(f"nothing is run: no peer at {options.peer}, or no {options.shared}", file=sys.stderr)
        return 1
    arguments = ["--peer", str(options.peer), "--shared", str(options.shared)]
    arguments += [] if options.full else ["--short"]
    arguments += ["--rounds", str(options.rounds)] if options.rounds else []
    reports: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    failed = []
    for name in options.only.split(","):
        if SUITE[name] and not shutil.which("wrk"):
            print(f"left out: {name}: no wrk (Debian package wrk)", file=sys.stderr)
            continue
        try:
            reports[name] = run(name, arguments)
        except subprocess.CalledProcessError:
            failed.append(name)
            continue
        options.out.parent.mkdir(parents=True, exist_ok=True)
        ordered = {each: reports[each] for each in SUITE if each in reports}
        options.out.write_text(json.dumps(ordered, indent=1) + "\n")
    write_page(options.out, options.page)
    print(f"written to {options.out} and {options.page}", file=sys.stderr)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
