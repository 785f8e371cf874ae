"""The request plane, Python to Python, beside the peer's bindings and grpcio's asyncio.

One worker and one caller process each, on loopback and uvloop, with the same payloads in msgpack and
the same load (``rpc_load.py``): requests for one item at 32 in flight, one after the other, and
eight long streams at once: of a handler that never waits (its items can be sent in batches), and of
one that gives the loop a turn before each item (``turn_items_per_s``), as an engine does. CPU times
are the caller's and the worker's together. Over NATS a server of its own stands between them, whose
CPU time does not count. The callers read each item of the peer's as its bindings give it, decoded.

A measurement during which others kept more than ``--quiet`` cores busy is made again, whatever came
out, until ``--patience`` is over; then it counts, and ``others_cores`` says so. ``discarded`` is how
many were made again.

What a machine has not got, and what fails, is in ``left_out`` with its reason: nats-server, and
grpcio, which goes into a temporary environment.

    python benchmarks/request_plane.py --peer DIR --shared ../shared [--rounds 5] [--grpc DIR]
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import NamedTuple

from quiet import Others
from servers import nats, nats_missing
from suite import arguments, end_when_told
from summary import Target, print_report, report
from systems import process

HERE = Path(__file__).resolve().parent
RATIOS = {
    "muster": "peer",
    "muster_nats": "peer_nats",
    "grpcio": "peer",
}
TARGETS = [
    Target("requests_per_s", 2.5, at_least=True),
    Target("items_per_s", 4.0, at_least=True),
    Target("turn_items_per_s", 4.0, at_least=True),
    Target("latency_1_median_us", 0.4),
]
_RUN_S = 120.0


class Side(NamedTuple):
    """How to run one system: its Python, its script, and environment on top."""

    python: str
    script: str
    extra: dict[str, str]


def measure(side: Side) -> dict[str, float]:
    """One round: start a worker, run the caller, stop the worker.

    Raises:
        RuntimeError: The caller failed; says what it wrote last.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        extra = {
            "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1",
            "DYN_LOG": "error",
            "BENCH_PORT_FILE": str(root / "port"),
            **side.extra,
        }
        command = [side.python, str(HERE / side.script)]
        with process([*command, "worker"], root, "worker", extra, None) as worker:
            extra["BENCH_WORKER"] = str(worker.pid)
            with (
                process([*command, "caller"], root, "caller", extra, None) as caller,
                contextlib.suppress(subprocess.TimeoutExpired),
            ):
                caller.wait(_RUN_S)
        for line in (root / "caller.log").read_text().splitlines():
            if line.startswith('{"requests_per_s"'):
                return dict(json.loads(line))
        wrote = "; ".join(
            (root / f"{role}.log").read_text().strip()[-300:] for role in ("caller", "worker")
        )
        raise RuntimeError(f"no figures: {wrote}")


def grpc_python(directory: Path) -> str:
    """The Python of an environment with grpcio in ``directory``; made unless it is there.

    Raises:
        RuntimeError: It cannot be installed.
    """
    python = directory / "bin" / "python"
    if not python.exists():
        venv.create(directory, with_pip=True)
        packages = ("grpcio", "msgspec", "uvloop")
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run([*install, *packages], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"grpcio cannot be installed: {done.stderr.strip()[-300:]}")
    return str(python)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--grpc", type=Path, help="where to keep the environment with grpcio")
    parser.add_argument("--quiet", type=float, default=0.25, help="cores others may use")
    parser.add_argument(
        "--patience", type=float, default=0, help="seconds to wait for quiet, in all"
    )
    options = parser.parse_args()
    end_when_told()
    dynamo = str(options.peer.absolute() / "bin" / "python")
    sides = {
        "muster": Side(sys.executable, "rpc_muster.py", {}),
        "peer": Side(dynamo, "rpc_dynamo.py", {}),
    }
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        try:
            scratch = stack.enter_context(tempfile.TemporaryDirectory())
            python = grpc_python(options.grpc.absolute() if options.grpc else Path(scratch, "grpc"))
            sides["grpcio"] = Side(python, "rpc_grpc.py", {})
        except RuntimeError as error:
            left_out["grpcio"] = str(error)
        if missing := nats_missing():
            left_out["nats"] = missing
        else:
            server = stack.enter_context(nats())
            over = {"DYN_REQUEST_PLANE": "nats", "NATS_SERVER": server.url}
            sides["muster_nats"] = Side(sys.executable, "rpc_muster.py", over)
            sides["peer_nats"] = Side(dynamo, "rpc_dynamo.py", over)
        quiet = Quiet(options.quiet, time.monotonic() + options.patience)
        rounds = run(sides, options.rounds or (1 if options.short else 5), left_out, quiet)
    made = report(
        "request_plane",
        rounds,
        ratios_to=RATIOS,
        left_out=left_out,
        targets=TARGETS,
        about={"short": options.short, "discarded": quiet.discarded},
    )
    print_report(made)


class Quiet:
    """Measures again what others disturbed, until a moment.

    Args:
        cores: What others may use.
        until: Monotonic time from which on everything counts.
    """

    def __init__(self, cores: float, until: float) -> None:
        self._cores = cores
        self._until = until
        self.discarded = 0

    def measure(self, side: Side) -> dict[str, float]:
        """One round that counts."""
        while True:
            others = Others()
            row = measure(side)
            row["others_cores"] = others.cores()
            if row["others_cores"] <= self._cores or time.monotonic() > self._until:
                return row
            self.discarded += 1
            print(
                f"again: others used {row['others_cores']:.2f} cores", file=sys.stderr, flush=True
            )
            time.sleep(1)


def run(
    sides: dict[str, Side], count: int, left_out: dict[str, str], quiet: Quiet
) -> dict[str, list[dict[str, float]]]:
    """The rounds of every system; one that fails is left out from then on, and forgotten."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(count):
        order = list(sides.items())
        for name, side in order[::-1] if number % 2 else order:
            if name in left_out:
                continue
            try:
                row = quiet.measure(side)
            except RuntimeError as error:
                if name in ("muster", "peer"):
                    raise
                left_out[name] = str(error)
                rounds[name].clear()
                continue
            rounds[name].append(row)
            shown = ", ".join(f"{key} {value:.4g}" for key, value in row.items())
            print(f"round {number + 1} {name}: {shown}", file=sys.stderr, flush=True)
    return rounds


if __name__ == "__main__":
    main()
