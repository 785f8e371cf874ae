"""Memory of a worker process while it serves large files: Muster's and the peer's.

A fresh worker for each load. Once it stands, its peak (VmHWM) is set back to what is resident, then
wrk gets the file with so many clients for some seconds; ``grown_mb`` is peak less resident before.
Rounds are interleaved; figures are medians. Muster keeps private copies of the files it serves in
the temporary directory; ``copies_mb`` is what those take on disk.

Dynamo holds the whole file in memory for each request, so a load that might take more than a
quarter of this machine's available memory there is left out for it, by name, in ``left_out``.

    python benchmarks/worker_memory.py --peer DIR --shared ../shared [--rounds 5]
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from hosting import MIB, available_bytes, hosting, model_with_files, wrk_get
from suite import Suite, arguments
from systems import OWN, System, systems
from usage import rss_mb

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
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, help="of each load")
    suite = Suite("worker_memory", parser)
    seconds = suite.options.seconds or (3.0 if suite.short else 5.0)
    with tempfile.TemporaryDirectory() as text:
        scratch = Path(text)
        known = systems(suite.peer, model_with_files(suite.model, scratch / "model", SIZES))
        for number in suite.numbers(OWN):
            for key, name, clients in LOADS:
                for who in suite.in_turn(OWN):
                    if who == "peer" and SIZES[name] * clients > available_bytes() // 4:
                        gigabytes = SIZES[name] * clients / 1e9
                        suite.left_out[f"peer {key}"] = f"might take {gigabytes:.0f} GB of memory"
                        continue
                    root = scratch / f"{who}-{key}-{number}"
                    suite.add(who, measure(known[who], root, name, clients, seconds), key)
    suite.finish()


if __name__ == "__main__":
    main()
