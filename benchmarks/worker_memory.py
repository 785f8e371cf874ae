"""Memory of a worker process while it serves large files: Muster's and the peer's.

A fresh worker for each load. Once it stands, its peak (VmHWM) is set back to what is resident, then
wrk gets the file with so many clients for some seconds; ``grown_mb`` is peak less resident before.
Rounds are interleaved; figures are medians. Muster keeps private copies of the files it serves in
the temporary directory; ``copies_mb`` is what those take on disk.

Dynamo holds the whole file in memory for each request, so a load that might take more than a
quarter of this machine's available memory there is left out for it, by name, in ``left_out``.

    python benchmarks/worker_memory.py --peer DIR --shared ../shared [--rounds 3] [--seconds 5]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hosting import MIB, available_bytes, hosting, model_with_files, wrk_get
from systems import System, rss_mb, systems

SIZES = {"one-gib.dat": 1024 * MIB, "sixty-four-mib.dat": 64 * MIB}
LOADS = (
    ("1gib_c1", "one-gib.dat", 1),
    ("1gib_c50", "one-gib.dat", 50),
    ("64mib_c50", "sixty-four-mib.dat", 50),
)


def peak_mb(process: subprocess.Popen[bytes]) -> float:
    """Most resident memory since the start, or since it was set back, in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def copies_mb(process: subprocess.Popen[bytes], root: Path) -> float:
    """Disk taken by files under ``root`` that the process holds open and nobody can name."""
    blocks: dict[int, int] = {}
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            target, status = str(link.readlink()), link.stat()
        except OSError:
            continue
        if target.startswith(str(root)) and status.st_nlink == 0:
            blocks[status.st_ino] = status.st_blocks * 512
    return sum(blocks.values()) / MIB


def measure(
    system: System, root: Path, name: str, clients: int, seconds: float
) -> dict[str, float]:
    """One fresh worker under one load."""
    with hosting(system, root) as host:
        Path(f"/proc/{host.process.pid}/clear_refs").write_text("5")
        before = rss_mb(host.process)
        got = wrk_get(host, name, clients=clients, seconds=seconds, scratch=root)
        peak = peak_mb(host.process)
        return {
            "resident_mb": before,
            "peak_mb": peak,
            "grown_mb": peak - before,
            "copies_mb": copies_mb(host.process, root),
            "mb_s": got.bytes_s / 1e6,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="virtual environment of the peer")
    parser.add_argument("--shared", type=Path, required=True, help="directory with models/")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {
        who: [{} for _ in range(options.rounds)] for who in ("muster", "peer")
    }
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as text:
        scratch = Path(text)
        shared_model = (options.shared / "models" / "deepseek").resolve()
        model = model_with_files(shared_model, scratch / "model", SIZES)
        known = systems(options.peer.absolute(), model)
        for number in range(options.rounds):
            for key, name, clients in LOADS:
                for who in rounds:
                    if who == "peer" and SIZES[name] * clients > available_bytes() // 4:
                        gigabytes = SIZES[name] * clients / 1e9
                        left_out[f"peer {key}"] = f"might take {gigabytes:.0f} GB of memory"
                        continue
                    root = scratch / f"{who}-{key}-{number}"
                    found = measure(known[who], root, name, clients, options.seconds)
                    rounds[who][number] |= {f"{key}_{unit}": n for unit, n in found.items()}
                    print(
                        f"round {number + 1} {key} {who}: {found['resident_mb']:.0f} MB, "
                        f"peak {found['peak_mb']:.0f} MB, {found['mb_s']:.0f} MB/s",
                        file=sys.stderr,
                        flush=True,
                    )
    print(json.dumps(report(rounds, left_out), indent=1))


def report(rounds: dict[str, list[dict[str, float]]], left_out: dict[str, str]) -> dict[str, Any]:
    """Medians and ratios; a key is only where every round has it."""
    medians = {
        who: {
            key: statistics.median(row[key] for row in rows)
            for key in rows[0]
            if all(key in row for row in rows)
        }
        for who, rows in rounds.items()
    }
    ratios = {
        key: value / medians["peer"][key]
        for key, value in medians["muster"].items()
        if medians["peer"].get(key)
    }
    return {
        "benchmark": "worker_memory",
        "command": sys.argv,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "medians": medians,
        "ratio_muster_to_peer": ratios,
        "left_out": left_out,
        "rounds": rounds,
    }


if __name__ == "__main__":
    main()
