"""From starting a worker and a frontend, both at once, until the model is listed.

Homes, caches and registries are empty each time; the programs themselves are in the page cache after
the first round, which does not count. ``card_s``: until the worker's card is in the registry;
``answers_s``: until the frontend answers at all; ``listed_s``: until ``/v1/models`` names the model.
Looked at every 2 ms. ``cpu_s`` is the CPU time of both up to then.

    python benchmarks/start.py --peer DIR --shared ../shared [--rounds 5]
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

from suite import Suite, arguments
from summary import Target
from systems import (
    OWN,
    System,
    free_port,
    frontend_command,
    get_json,
    process,
    small_free_port,
    systems,
)
from usage import cpu_seconds

_LIMIT_S = 60.0
_STEP_S = 0.002


def start(system: System) -> dict[str, float]:
    """Seconds from the start to each of the moments."""
    with tempfile.TemporaryDirectory() as scratch:
        root, port = Path(scratch), free_port()
        cards = root / "registry" / "v1" / "mdc"
        extra = {"DYN_SYSTEM_PORT": str(small_free_port())}
        began = time.perf_counter()
        with (
            process(system.worker, root, "worker", extra, None) as worker,
            process(frontend_command(system, port), root, "frontend", {}, None) as frontend,
        ):
            found: dict[str, float] = {}
            while "listed_s" not in found:
                time.sleep(_STEP_S)
                now = time.perf_counter() - began
                for role, each in (("worker", worker), ("frontend", frontend)):
                    if now > _LIMIT_S or each.poll() is not None:
                        log = (root / f"{role}.log").read_text()[-2000:]
                        raise RuntimeError(f"no model is listed; {role} ended or is late: {log}")
                if "card_s" not in found and _has_records(cards):
                    found["card_s"] = now
                with contextlib.suppress(OSError, ValueError, KeyError):
                    models = get_json(port, "/v1/models")["data"]
                    now = time.perf_counter() - began
                    found.setdefault("answers_s", now)
                    if models:
                        found["listed_s"] = now
            found["cpu_s"] = cpu_seconds(worker) + cpu_seconds(frontend)
            return found


def _has_records(bucket: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return any(not each.name.startswith(".") for each in bucket.iterdir())
    return False


def main() -> None:
    suite = Suite("start", arguments(__doc__))
    known = systems(suite.peer, suite.model)
    for who in OWN:
        start(known[who])
    for _ in suite.numbers(OWN):
        for who in suite.in_turn(OWN):
            suite.add(who, start(known[who]))
    suite.finish([Target("listed_s", 0.6)])


if __name__ == "__main__":
    main()
