"""From a card in the registry to a model that is served: cold and warm, beside the peer.

The peer's bindings have no call that resolves a card, so both systems are measured from outside. A
worker runs with a registry of its own. A frontend that already answers watches an empty one; the
worker's records are copied there, and from that moment two things are timed, by looking every
millisecond: ``files``, until every file of the card has its name in the frontend's cache, and
``listed``, until ``GET /v1/models`` names the model (which adds loading the tokenizer, and more).

``cold``: the frontend's home is empty. ``again``: the card left and comes back, same process.
``warm``: a new process over the same cache, without the cache's named views, so that they are made
again. Two models: one of few files with a tokenizer of 4 MB, and one of ``--many`` small files.
``eight``: eight frontends of one host share an empty home; ``listed`` is when the last of them names
the model, and ``fetched_mb`` what all together got from the worker, counted by a relay before it.
Rounds are interleaved (A B A B ...); figures are medians in milliseconds and MB (10^6).

    python benchmarks/resolve.py --peer DIR --shared ../shared [--rounds 5] [--many 200]
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from hosting import Host, hosting, model_with_files
from relay import relay
from suite import Suite, arguments
from summary import Target
from systems import OWN, System, free_port, frontend_command, process, systems

from muster.testing.tiny_model import write_tiny_model

TARGETS = [
    Target("few_cold_files_ms", 0.7),
    Target("few_warm_files_ms", 0.7),
    Target("eight_listed_ms", 0.7),
    Target("eight_fetched_mb", 0.13),
]
_LIMIT_S = 60.0
_STEP_S = 0.001
_BUCKETS = ("instances", "mdc")


class Registry:
    """The frontend's registry: empty, or with copies of what the worker published in its own.

    Args:
        root: Where it is to be.
        published: The worker's.
        ports: What stands in the copies for a port of the worker.
    """

    def __init__(self, root: Path, published: Path, ports: dict[int, int] | None = None) -> None:
        self.root = root
        self._published = published
        self._ports = ports or {}
        for bucket in _BUCKETS:
            (root / "v1" / bucket).mkdir(parents=True)

    def put(self) -> None:
        """Make the records appear, each at once, the card last."""
        for bucket in _BUCKETS:
            for record in (self._published / "v1" / bucket).iterdir():
                if not record.name.startswith("."):
                    copied = self.root / f"copy-{record.name}"
                    copied.write_bytes(self._redirected(record.read_bytes()))
                    copied.rename(self.root / "v1" / bucket / record.name)

    def clear(self) -> None:
        """Take them away, the card first."""
        for bucket in reversed(_BUCKETS):
            for record in (self.root / "v1" / bucket).iterdir():
                record.unlink()

    def _redirected(self, record: bytes) -> bytes:
        """``record`` with other ports in its URLs."""
        for real, other in self._ports.items():
            record = re.sub(rb"(http://[^/\"]*):%d\b" % real, rb"\1:%d" % other, record)
        return record


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
def frontend(
    system: System, root: Path, registry: Registry, cache: Path, number: int = 0
) -> Iterator[Frontend]:
    """A frontend over ``registry``, from when it answers; all ``number``s share a home."""
    port, home = free_port(), root / "home-frontend"
    home.mkdir(exist_ok=True)
    extra = {
        "HOME": str(home),
        "DYN_FILE_KV": str(registry.root),
        "MUSTER_CACHE_DIR": str(cache),
    }
    role = f"frontend-{number}"
    with process(frontend_command(system, port), root, role, extra, None) as child:
        made = Frontend(child, port, root / f"{role}.log")
        made.until_listed(False)
        yield made


def together(system: System, host: Host, root: Path, count: int) -> dict[str, float]:
    """One round of ``count`` frontends that share an empty cache."""
    root.mkdir()
    cache = root / "home-frontend" / ".cache" / "dynamo" / "mdc"
    port = urllib.parse.urlsplit(host.urls["config.json"]).port or 0
    with relay(port) as counted, contextlib.ExitStack() as stack:
        registry = Registry(root / "frontend-registry", host.registry, {port: counted.port})
        running = [
            stack.enter_context(frontend(system, root, registry, cache, number))
            for number in range(count)
        ]
        time.sleep(1)  # all have looked at the registry
        began = time.perf_counter()
        registry.put()
        waiting = list(running)
        while waiting:
            if time.perf_counter() - began > _LIMIT_S:
                raise RuntimeError(f"{len(waiting)} frontends do not list the model in time")
            waiting = [each for each in waiting if not each.listed()]
            time.sleep(_STEP_S * 5)
        took = time.perf_counter() - began
        found = {"listed_ms": took * 1e3, "fetched_mb": counted.received() / 1e6}
    shutil.rmtree(root)
    return found


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
    parser = arguments(__doc__)
    parser.add_argument("--many", type=int, default=200, help="files of the second model")
    suite = Suite("resolve", parser)
    with tempfile.TemporaryDirectory() as text, contextlib.ExitStack() as stack:
        scratch = Path(text)
        tiny = scratch / "tiny"
        tiny.mkdir()
        write_tiny_model(tiny)
        many = {f"part-{number:03}.json": 2048 for number in range(suite.options.many)}
        models = {"few": suite.model, "many": model_with_files(tiny, scratch / "many", many)}
        known = {label: systems(suite.peer, model) for label, model in models.items()}
        hosts = {
            (label, who): stack.enter_context(
                hosting(known[label][who], scratch / f"{who}-{label}")
            )
            for label in models
            for who in OWN
        }
        for number in suite.numbers(OWN):
            for (label, who), host in suite.in_turn(hosts.items()):
                root = scratch / f"{who}-{label}-{number}"
                suite.add(who, measure(known[label][who], host, root), label)
            for who in suite.in_turn(OWN):
                root = scratch / f"{who}-eight-{number}"
                try:
                    found = together(known["few"][who], hosts["few", who], root, 8)
                except RuntimeError as error:
                    suite.left_out[f"{who} eight"] = f"in round {number + 1}: {error}"
                else:
                    suite.add(who, found, "eight")
    suite.finish(TARGETS)


if __name__ == "__main__":
    main()
