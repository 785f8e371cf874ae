"""Chat over HTTP, beside the peer: requests/s (16 tokens, unary) and tokens/s (128, streamed).

Both systems run as frontend + mock worker without waiting, on the cores this machine has, with wrk
beside them. Rounds are interleaved (A B A B ...); figures are medians of rounds. With ``--cross``
each frontend also runs over the other's mock, which compares frontends alone.

    python benchmarks/chat.py --peer DIR --shared ../shared [--rounds 5] [--seconds 4]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from systems import cpu_seconds, rss_mb, running, systems

LOADS = {"chat": ("chat.lua", 1), "stream": ("stream.lua", 128)}


def wrk(port: int, script: Path, connections: int, seconds: float) -> float:
    """Requests/s of one run; a run with errors does not count and raises."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}", "-s", str(script)]
    text = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/v1/chat/completions"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(text)
    return float(next(line for line in text.splitlines() if "Requests/sec" in line).split()[-1])


def measure(
    pair: tuple[Any, Any], shared: Path, connections: int, seconds: float
) -> dict[str, Any]:
    """One round of one pair of frontend and worker, started afresh."""
    found: dict[str, Any] = {}
    with running(*pair) as at:
        for name, (script, unit) in LOADS.items():
            path = shared / "peer" / script
            wrk(at.port, path, connections, 1)
            before = cpu_seconds(at.frontend)
            rate = wrk(at.port, path, connections, seconds)
            spent = cpu_seconds(at.frontend) - before
            found[name] = rate * unit
            found[f"{name}_frontend_cpu_us"] = spent / (rate * unit * seconds) * 1e6
        found["frontend_rss_mb"] = rss_mb(at.frontend)
        found["worker_rss_mb"] = rss_mb(at.worker)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="virtual environment of the peer")
    parser.add_argument(
        "--shared", type=Path, required=True, help="directory with models/ and peer/"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--cross", action="store_true", help="also over each other's mock")
    options = parser.parse_args()
    known = systems(options.peer.resolve(), (options.shared / "models" / "deepseek").resolve())
    pairs = {"muster": ("muster", "muster"), "peer": ("peer", "peer")}
    if options.cross:
        pairs |= {"muster over peer": ("muster", "peer"), "peer over muster": ("peer", "muster")}
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in pairs}
    for number in range(options.rounds):
        for name, (frontend, worker) in pairs.items():
            pair = (known[frontend], known[worker])
            row = measure(pair, options.shared, options.connections, options.seconds)
            rounds[name].append(row)
            print(
                f"round {number + 1} {name}: {row['chat']:.0f} chat/s, {row['stream']:.0f} tokens/s",
                file=sys.stderr,
            )
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for name, rows in rounds.items()
    }
    ratios = {key: medians["muster"][key] / medians["peer"][key] for key in medians["muster"]}
    report = {
        "benchmark": "chat",
        "command": sys.argv,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "connections": options.connections,
        "medians": medians,
        "ratio_muster_to_peer": ratios,
        "rounds": rounds,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
