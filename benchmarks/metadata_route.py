"""The route a worker serves its model's files by, beside the peer's and nginx.

Three servers of the same files on loopback: a Muster worker, a Dynamo worker, one nginx process.
Each is loaded with wrk in turn (A B C A B C ...): a small file for requests/s, 16 MiB (a large
tokenizer) and 1 GiB for bytes/s. Figures are medians of rounds; ``cpu_s_per_gb`` and ``cpu_us`` are
what the server process spent on a GB (10^9 bytes) and on a request of the small file.

Dynamo holds the whole file in memory for each request, so a load that might take more than a
quarter of this machine's available memory there is left out for it, by name, in ``left_out``.

    python benchmarks/metadata_route.py --peer DIR --shared ../shared [--rounds 3] [--seconds 4]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from hosting import (
    MIB,
    Host,
    available_bytes,
    hosting,
    model_with_files,
    nginx,
    nginx_missing,
    wrk_get,
)
from systems import systems

SMALL, MIDDLE, LARGE = "config.json", "large-tokenizer.dat", "one-gib.dat"
GB = 1e9


def loads(sizes: dict[str, int], clients: list[int]) -> list[tuple[str, str, int, int]]:
    """Each load: key, file, clients, most bytes that may be in flight."""
    found = [("small_c16", SMALL, 16, 0)]
    for label, name in (("16mib", MIDDLE), ("1gib", LARGE)):
        found += [(f"{label}_c{count}", name, count, sizes[name] * count) for count in clients]
    return found


def measure(host: Host, name: str, clients: int, seconds: float, scratch: Path) -> dict[str, float]:
    """One server under one load."""
    if name == SMALL:
        wrk_get(host, name, clients=clients, seconds=1, scratch=scratch)
    got = wrk_get(host, name, clients=clients, seconds=seconds, scratch=scratch)
    if name == SMALL:
        return {"requests_s": got.requests_s, "cpu_us": got.cpu_s / got.requests * 1e6}
    return {"mb_s": got.bytes_s / 1e6, "cpu_s_per_gb": got.cpu_s / (got.total_bytes / GB)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="virtual environment of the peer")
    parser.add_argument("--shared", type=Path, required=True, help="directory with models/")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 50])
    options = parser.parse_args()
    sizes = {MIDDLE: 16 * MIB, LARGE: 1024 * MIB}
    rounds: dict[str, list[dict[str, float]]] = {}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as text, contextlib.ExitStack() as stack:
        scratch = Path(text)
        shared_model = (options.shared / "models" / "deepseek").resolve()
        model = model_with_files(shared_model, scratch / "model", sizes)
        known = systems(options.peer.absolute(), model)
        hosts = {
            name: stack.enter_context(hosting(known[name], scratch / name))
            for name in ("muster", "peer")
        }
        if nginx_missing():
            left_out["nginx"] = nginx_missing()
        else:
            hosts["nginx"] = stack.enter_context(nginx(model, scratch / "nginx"))
        rounds = {name: [{} for _ in range(options.rounds)] for name in hosts}
        for number in range(options.rounds):
            for key, name, clients, in_flight in loads(sizes, options.clients):
                for who, host in hosts.items():
                    if who == "peer" and in_flight > available_bytes() // 4:
                        left_out[f"peer {key}"] = (
                            f"might take {in_flight / GB:.0f} GB of memory in the worker"
                        )
                        continue
                    found = measure(host, name, clients, options.seconds, scratch)
                    rounds[who][number] |= {f"{key}_{unit}": n for unit, n in found.items()}
                    figures = ", ".join(f"{unit} {value:.4g}" for unit, value in found.items())
                    print(f"round {number + 1} {key} {who}: {figures}", file=sys.stderr, flush=True)
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
    return {
        "benchmark": "metadata_route",
        "command": sys.argv,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "medians": medians,
        "ratio_muster_to_peer": _ratios(medians, "peer"),
        "ratio_muster_to_nginx": _ratios(medians, "nginx"),
        "left_out": left_out,
        "rounds": rounds,
    }


def _ratios(medians: dict[str, dict[str, float]], other: str) -> dict[str, float]:
    theirs = medians.get(other, {})
    return {key: value / theirs[key] for key, value in medians["muster"].items() if theirs.get(key)}


if __name__ == "__main__":
    main()
