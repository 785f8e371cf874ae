"""A large fleet in the registry: 1,000 instances of 200 models, and a frontend that is new to it.

One real worker registers its model; ``crowd.py`` registers 1,000 copies of its records under other
identities, spread over 200 names, and keeps them alive as that many processes would. A frontend with
an empty cache starts: ``all_listed_s`` is when ``/v1/models`` has all 201 models, ``all_known_s`` when
``/health`` has all 1,001 instances too, ``cpu_s`` what it took the frontend. Then nothing is asked:
``idle_percent`` of a core. Then, ten times, an instance with a model of its own comes and goes:
``added_ms`` and ``gone_ms`` are the medians of the times until ``/v1/models`` says so (looked at every
2 ms). ``--short`` takes a tenth of the instances and of the models.

A frontend has ``--limit`` seconds to know everything, and a minute to see a change. Where it takes
longer nothing more is measured of it in that round, and the report says so under ``left_out``.

    python benchmarks/large_fleet.py --peer DIR --shared ../shared [--rounds 5] [--seconds 20]
        [--limit 180]
"""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen
from typing import NamedTuple

from crowd import renamed
from hosting import Host, hosting
from servers import crowd
from suite import Suite, arguments
from summary import Target
from systems import OWN, System, free_port, frontend_command, get_json, model_ids, process, systems
from usage import cpu_seconds, memory_mb

_SETTLE_S = 5.0
"""Between all being known and the idle window, so that what follows a start is over."""
_CHANGE_S = 60.0
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


class LateError(Exception):
    """Something was not seen in time; says what."""


def until_named(port: int, wanted: bool) -> float:
    """Milliseconds until the newcomer's model is listed, or is not.

    Raises:
        LateError: That took too long.
    """
    began = time.perf_counter()
    while (_NAME in model_ids(port)) is not wanted:
        if time.perf_counter() - began > _CHANGE_S:
            change = "comes" if wanted else "goes"
            raise LateError(f"that a model {change} is not seen within {_CHANGE_S:g} s")
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


def until_known(
    port: int, frontend: Popen[bytes], log: Path, *, models: int, instances: int, limit_s: float
) -> dict[str, float]:
    """Seconds until a frontend that has just been started lists all, and what that took it.

    Raises:
        LateError: It did not in time.
        RuntimeError: It has ended.
    """
    began = time.perf_counter()

    def wait(what: str, known: Callable[[int], int], wanted: int) -> float:
        while (so_far := known(port)) < wanted:
            if frontend.poll() is not None:
                raise RuntimeError(f"the frontend ended: {log.read_text()[-2000:]}")
            if time.perf_counter() - began > limit_s:
                raise LateError(f"{so_far} of {wanted} {what} known within {limit_s:g} s")
            time.sleep(0.02)
        return time.perf_counter() - began

    return {
        "all_listed_s": wait("models", lambda port: len(model_ids(port)), models),
        "all_known_s": wait("instances", instances_known, instances),
        "cpu_s": cpu_seconds(frontend),
    }


def idle(frontend: Popen[bytes], seconds: float) -> dict[str, float]:
    """What a frontend uses that nobody asks anything."""
    time.sleep(_SETTLE_S)
    cpu, since = cpu_seconds(frontend), time.perf_counter()
    time.sleep(seconds)
    used = (cpu_seconds(frontend) - cpu) / (time.perf_counter() - since)
    return {"idle_percent": used * 100, "rss_mb": memory_mb(frontend)["rss"]}


class Size(NamedTuple):
    """How much is measured: the fleet, the seconds of the idle window, changes, and a limit."""

    instances: int
    models: int
    seconds: float
    changes: int
    limit_s: float


def measure(system: System, size: Size) -> Iterator[dict[str, float]]:
    """One round with one system: its figures, as they come; ``LateError`` where there are no more."""
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        root, port = Path(scratch), free_port()
        host = stack.enter_context(hosting(system, root))
        stack.enter_context(crowd(size.instances, {}, root, models=size.models))
        command = frontend_command(system, port)
        frontend = stack.enter_context(process(command, root, "frontend", {}, None))
        yield until_known(
            port,
            frontend,
            root / "frontend.log",
            models=size.models + 1,
            instances=size.instances + 1,
            limit_s=size.limit_s,
        )
        yield idle(frontend, size.seconds)
        yield changes(port, host, size.changes)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, help="of the idle window")
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--limit", type=float, default=180.0, help="seconds to know everything")
    suite = Suite("large_fleet", parser)
    part = 10 if suite.short else 1
    size = Size(
        instances=suite.options.instances // part,
        models=suite.options.models // part,
        seconds=suite.options.seconds or (5.0 if suite.short else 20.0),
        changes=3 if suite.short else 10,
        limit_s=suite.options.limit,
    )
    known = systems(suite.peer, suite.model)
    for number in suite.numbers(OWN):
        for who in suite.in_turn(OWN):
            try:
                for figures in measure(known[who], size):
                    suite.add(who, figures)
            except LateError as late:
                suite.left_out[f"{who}, round {number + 1}"] = str(late)
    suite.finish(
        [
            Target("idle_percent", 2.0, absolute=True),
            Target("added_ms", 100.0, absolute=True),
            Target("gone_ms", 100.0, absolute=True),
        ],
        about={"instances": size.instances, "models": size.models},
    )


if __name__ == "__main__":
    main()
