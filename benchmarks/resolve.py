"""From a card in the registry to a model that is served: cold and warm, beside the peer.

The peer's bindings have no call that resolves a card, so both systems are measured from outside. A
worker runs with a registry of its own. A frontend that already answers watches an empty one; the
worker's records are copied there, and from that moment two things are timed, by looking every
millisecond: ``files``, until every file of the card has its name in the frontend's cache, and
``listed``, until ``GET /v1/models`` names the model (which adds loading the tokenizer, and more).

``cold``: the frontend's home is empty. ``again``: the card left and comes back, same process.
``warm``: a new process over the same cache, without the cache's named views, so that they are made
again. Two models: one of few files with a tokenizer of 4 MB, and one of ``--many`` small files.
Rounds are interleaved (A B A B ...); figures are medians in milliseconds.

    python benchmarks/resolve.py --peer DIR --shared ../shared [--rounds 5] [--many 200]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hosting import Host, hosting, model_with_files
from systems import System, free_port, process, systems

from muster.testing.tiny_model import write_tiny_model

_LIMIT_S = 60.0
_STEP_S = 0.001
_BUCKETS = ("instances", "mdc")


class Registry:
    """The frontend's registry: empty, or with copies of what the worker published in its own."""

    def __init__(self, root: Path, published: Path) -> None:
        self.root = root
        self._published = published
        for bucket in _BUCKETS:
            (root / "v1" / bucket).mkdir(parents=True)

    def put(self) -> None:
        """Make the records appear, each at once, the card last."""
        for bucket in _BUCKETS:
            for record in (self._published / "v1" / bucket).iterdir():
                if not record.name.startswith("."):
                    copied = self.root / f"copy-{record.name}"
                    copied.write_bytes(record.read_bytes())
                    copied.rename(self.root / "v1" / bucket / record.name)

    def clear(self) -> None:
        """Take them away, the card first."""
        for bucket in reversed(_BUCKETS):
            for record in (self.root / "v1" / bucket).iterdir():
                record.unlink()


class Frontend:
    """A running frontend, asked over one connection."""

    def __init__(self, child: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._child = child
        self._log = log
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def listed(self) -> bool:
        """Whether a model is listed."""
        self._connection.request("GET", "/v1/models")
        return bool(json.loads(self._connection.getresponse().read())["data"])

    def until_listed(self, wanted: bool) -> None:
        """Wait for the list to have a model, or none; also for the frontend to answer at all."""
        deadline = time.monotonic() + _LIMIT_S
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                raise RuntimeError(f"the frontend ended: {self._log.read_text()[-2000:]}")
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                if self.listed() is wanted:
                    return
            self._connection.close()
            time.sleep(0.02)
        raise RuntimeError(f"the frontend did not come so far: {self._log.read_text()[-2000:]}")

    def time_to_serve(self, registry: Registry, cache: Path, names: set[str]) -> dict[str, float]:
        """Put the card there; milliseconds until its files are here and until it is listed."""
        started = time.perf_counter()
        registry.put()
        found: dict[str, float] = {}
        while "listed" not in found:
            if time.perf_counter() - started > _LIMIT_S:
                raise RuntimeError(f"never listed: {self._log.read_text()[-2000:]}")
            if "files" not in found and views_have(cache, names):
                found["files"] = (time.perf_counter() - started) * 1e3
            if self.listed():
                found["listed"] = (time.perf_counter() - started) * 1e3
            time.sleep(_STEP_S)
        return found


def views_have(cache: Path, names: set[str]) -> bool:
    """Whether some view of the cache has all ``names``. Both systems have one layout."""
    with contextlib.suppress(OSError):
        for slug in (cache / "by-slug").iterdir():
            for view in slug.iterdir():
                with contextlib.suppress(OSError):
                    if names <= set(os.listdir(view)):  # noqa: PTH208 - the quickest way
                        return True
    return False


@contextlib.contextmanager
def frontend(system: System, root: Path, registry: Registry, cache: Path) -> Iterator[Frontend]:
    """A frontend over ``registry``, from when it answers."""
    port = free_port()
    command = [part.replace("{port}", str(port)) for part in system.frontend]
    extra = {"DYN_FILE_KV": str(registry.root), "MUSTER_CACHE_DIR": str(cache)}
    with process(command, root, "frontend", extra, None) as child:
        made = Frontend(child, port, root / "frontend.log")
        made.until_listed(False)
        yield made


def measure(system: System, host: Host, root: Path) -> dict[str, float]:
    """One round: cold, the same process again, and a new process over the same cache."""
    root.mkdir()
    registry = Registry(root / "frontend-registry", host.registry)
    # where the peer has its cache; Muster is told to use the same place
    cache = root / "home-frontend" / ".cache" / "dynamo" / "mdc"
    names = set(host.urls)
    found: dict[str, float] = {}
    with frontend(system, root, registry, cache) as running:
        cold = running.time_to_serve(registry, cache, names)
        registry.clear()
        running.until_listed(False)
        again = running.time_to_serve(registry, cache, names)
    registry.clear()
    shutil.rmtree(cache / "by-slug")
    with frontend(system, root, registry, cache) as running:
        warm = running.time_to_serve(registry, cache, names)
    for label, row in (("cold", cold), ("again", {"listed": again["listed"]}), ("warm", warm)):
        found |= {f"{label}_{key}_ms": value for key, value in row.items()}
    shutil.rmtree(root)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, help="virtual environment of the peer")
    parser.add_argument("--shared", type=Path, required=True, help="directory with models/")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=200, help="files of the second model")
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {
        who: [{} for _ in range(options.rounds)] for who in ("muster", "peer")
    }
    with tempfile.TemporaryDirectory() as text:
        scratch = Path(text)
        tiny = scratch / "tiny"
        tiny.mkdir()
        write_tiny_model(tiny)
        many = {f"part-{number:03}.json": 2048 for number in range(options.many)}
        models = {
            "few": (options.shared / "models" / "deepseek").resolve(),
            "many": model_with_files(tiny, scratch / "many", many),
        }
        for label, model in models.items():
            known = systems(options.peer.absolute(), model)
            with contextlib.ExitStack() as stack:
                hosts = {
                    who: stack.enter_context(hosting(known[who], scratch / f"{who}-{label}"))
                    for who in rounds
                }
                for number in range(options.rounds):
                    for who, host in hosts.items():
                        found = measure(known[who], host, scratch / f"{who}-{label}-{number}")
                        rounds[who][number] |= {f"{label}_{key}": n for key, n in found.items()}
                        figures = ", ".join(f"{key} {value:.0f}" for key, value in found.items())
                        print(f"round {number + 1} {label} {who}: {figures}", file=sys.stderr)
    medians = {
        who: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for who, rows in rounds.items()
    }
    ratios = {key: medians["muster"][key] / medians["peer"][key] for key in medians["muster"]}
    report = {
        "benchmark": "resolve",
        "command": sys.argv,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "medians": medians,
        "ratio_muster_to_peer": ratios,
        "rounds": rounds,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
