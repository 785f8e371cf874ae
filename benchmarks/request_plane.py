"""The request plane, Python to Python, beside the peer's bindings: requests/s, items/s, latency.

One server and one client process each, on loopback, rounds interleaved; figures are medians. The
peer's two scripts come with its installer; ours do the same, loop for loop.

    python benchmarks/request_plane.py --peer DIR --shared ../shared [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
LINE = re.compile(r"n=(\d+) conc=(\d+): (\d+) req/s (\d+) items/s +(\d+) us")


def measure(python: str, server: Path, client: Path) -> dict[str, float]:
    """One round: start a server, run the client, stop the server."""
    with tempfile.TemporaryDirectory() as scratch:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DYN_", "MUSTER_"))}
        environment = kept | {
            "HOME": scratch,
            "DYN_DISCOVERY_BACKEND": "file",
            "DYN_FILE_KV": f"{scratch}/registry",
            "DYN_REQUEST_PLANE": "tcp",
            "DYN_EVENT_PLANE": "zmq",
            "DYN_TCP_RPC_HOST": "127.0.0.1",
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
            "DYN_LOG": "error",
        }
        serving = subprocess.Popen([python, str(server)], env=environment)
        try:
            text = subprocess.run(
                [python, str(client)], env=environment, check=True, capture_output=True, text=True,
                timeout=120,
            ).stdout  # fmt: skip
        finally:
            serving.send_signal(signal.SIGTERM)
            try:
                serving.wait(10)
            except subprocess.TimeoutExpired:
                serving.kill()
    rows = {
        (int(n), int(conc)): (float(req), float(items), float(us))
        for n, conc, req, items, us in LINE.findall(text)
    }
    return {
        "requests_per_s": rows[1, 32][0],
        "items_per_s": rows[128, 32][1],
        "latency_us": rows[1, 1][2],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="virtual environment of the peer")
    parser.add_argument("--shared", type=Path, required=True, help="directory with peer/")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    systems = {
        "muster": (sys.executable, HERE / "rpc_server.py", HERE / "rpc_client.py"),
        "peer": (
            str(options.peer / "bin" / "python"),
            options.shared / "peer" / "rpc_server.py",
            options.shared / "peer" / "rpc_client.py",
        ),
    }
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in systems}
    for number in range(options.rounds):
        for name, (python, server, client) in systems.items():
            row = measure(python, server, client)
            rounds[name].append(row)
            print(f"round {number + 1} {name}: {row}", file=sys.stderr)
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for name, rows in rounds.items()
    }
    report = {
        "benchmark": "request_plane",
        "command": sys.argv,
        "python": platform.python_version(),
        "medians": medians,
        "ratio_muster_to_peer": {
            key: medians["muster"][key] / medians["peer"][key] for key in medians["muster"]
        },
        "rounds": rounds,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
