"""A large fleet in the registry: 1,000 instances of 200 models, and a frontend that is new to it.

One real worker registers its model; ``crowd.py`` registers 1,000 copies of its records under other
identities, spread over 200 names, and keeps them alive as that many processes would. A frontend with
an empty cache starts: ``all_listed_s`` is when ``/v1/models`` has all 201 models, ``all_known_s`` when
``/health`` has all 1,001 instances too, ``cpu_s`` what it took the frontend. Then nothing is asked:
``idle_percent`` of a core. Then, ten times, an instance with a model of its own comes and goes:
``added_ms`` and ``gone_ms`` are the medians of the times until ``/v1/models`` says so (looked at every
2 ms). ``--short`` takes a tenth of the instances and of the models.

    python benchmarks/large_fleet.py --peer DIR --shared ../shared [--rounds 5] [--seconds 20]
"""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
import time
from pathlib import Path

from crowd import renamed
from hosting import Host, hosting
from servers import crowd
from suite import Suite, arguments
from summary import Target
from systems import OWN, System, free_port, frontend_command, get_json, model_ids, process, systems
from usage import cpu_seconds, memory_mb

_LIMIT_S = 600.0
_STEP_S = 0.002
_NEW = 0x0BE3_0000_0000_0001
_NAME = "bench-new"


def instances_known(port: int) -> int:
    """How many instances a frontend has in ``/health``."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return len({each["instance_id"] for each in get_json(port, "/health")["instances"]})
    return 0


class Newcomer:
    """The records of one more instance, whose model has a name of its own."""

    def __init__(self, host: Host) -> None:
        self._files: list[tuple[Path, Path, bytes]] = []
        for bucket in ("instances", "mdc"):
            folder = host.registry / "v1" / bucket
            # the first is a file the crowd's copies were made from, or one of them
            known = min(path for path in folder.iterdir() if not path.name.startswith("."))
            record = {**json.loads(known.read_bytes()), "instance_id": _NEW}
            if bucket == "mdc":
                record["card_json"] = renamed(record["card_json"], _NAME)
            name = f"{known.name.rpartition('%2F')[0]}%2F{_NEW:x}"
            beside = host.registry / f"new-{bucket}"
            self._files.append((beside, folder / name, json.dumps(record).encode()))

    def come(self) -> None:
        """Register it, each record at once, the card last."""
        for beside, path, value in self._files:
            beside.write_bytes(value)
            beside.rename(path)

    def go(self) -> None:
        """Take it away, the card first."""
        for _, path, _ in reversed(self._files):
            path.unlink()


def until_named(port: int, wanted: bool) -> float:
    """Milliseconds until the newcomer's model is listed, or is not."""
    began = time.perf_counter()
    while (_NAME in model_ids(port)) is not wanted:
        if time.perf_counter() - began > _LIMIT_S:
            raise RuntimeError(f"a change is not seen within {_LIMIT_S:g} s")
        time.sleep(_STEP_S)
    return (time.perf_counter() - began) * 1e3


def changes(port: int, host: Host, count: int) -> dict[str, float]:
    """How long a model takes to be seen coming and going."""
    added, gone = [], []
    for _ in range(count):
        newcomer = Newcomer(host)
        newcomer.come()
        added.append(until_named(port, True))
        newcomer.go()
        gone.append(until_named(port, False))
    return {"added_ms": statistics.median(added), "gone_ms": statistics.median(gone)}


def measure(
    system: System, *, instances: int, models: int, seconds: float, count: int
) -> dict[str, float]:
    """One round with one system."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        root, port = Path(scratch), free_port()
        host = stack.enter_context(hosting(system, root))
        stack.enter_context(crowd(instances, {}, root, models=models))
        began = time.perf_counter()
        frontend = stack.enter_context(
            process(frontend_command(system, port), root, "frontend", {}, None)
        )

        def wait(so_far: str) -> None:
            if time.perf_counter() - began > _LIMIT_S or frontend.poll() is not None:
                log = (root / "frontend.log").read_text()[-2000:]
                raise RuntimeError(f"the frontend lists {so_far}: {log}")
            time.sleep(0.02)

        while (listed := len(model_ids(port))) < models + 1:
            wait(f"{listed} models")
        found = {"all_listed_s": time.perf_counter() - began}
        while (known := instances_known(port)) < instances + 1:
            wait(f"{known} instances")
        found |= {"all_known_s": time.perf_counter() - began, "cpu_s": cpu_seconds(frontend)}
        time.sleep(5)
        cpu, since = cpu_seconds(frontend), time.perf_counter()
        time.sleep(seconds)
        used = (cpu_seconds(frontend) - cpu) / (time.perf_counter() - since)
        found |= {"idle_percent": used * 100, "rss_mb": memory_mb(frontend)["rss"]}
        return found | changes(port, host, count)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, help="of the idle window")
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--models", type=int, default=200)
    suite = Suite("large_fleet", parser)
    part = 10 if suite.short else 1
    known = systems(suite.peer, suite.model)
    instances, models = suite.options.instances // part, suite.options.models // part
    for _ in suite.numbers(OWN):
        for who in suite.in_turn(OWN):
            figures = measure(
                known[who],
                instances=instances,
                models=models,
                seconds=suite.options.seconds or (5.0 if suite.short else 20.0),
                count=3 if suite.short else 10,
            )
            suite.add(who, figures)
    suite.finish(
        [
            Target("idle_percent", 2.0, absolute=True),
            Target("added_ms", 100.0, absolute=True),
            Target("gone_ms", 100.0, absolute=True),
        ],
        about={"instances": instances, "models": models},
    )


if __name__ == "__main__":
    main()
