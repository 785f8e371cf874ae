"""A small fleet of real processes to do harm to, and the three places that say who is in it."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from muster.testing.api import Api
from muster.testing.etcd_server import EtcdServer
from muster.testing.ports import free_port
from muster.testing.process import Process
from muster.testing.site import Site
from muster.testing.waiting import wait_until

__all__ = ["Backend", "SmallFleet", "instance_of", "open_files", "resident_bytes", "view_of"]

_SERVING = re.compile(r"serving '[^']*' as instance ([0-9a-f]+) ")
_STATUS_URL = re.compile(r"files at (http://[^\s,)]+)")
_LS_S = 30.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """A registry for processes.

    Attributes:
        name: ``file`` or ``etcd``.
        environment: What points a process to it.
        keys: All keys it holds now, whoever wrote them.
        etcd: The server, if it is one.
    """

    name: str
    environment: dict[str, str]
    keys: Callable[[], set[str]]
    etcd: EtcdServer | None = None

    @classmethod
    def file(cls, site: Site, *, ttl_s: float) -> Backend:
        """Files below the site's directory."""
        environment = {"DYN_DISCOVERY_BACKEND": "file", "MUSTER_FILE_TTL_SECS": f"{ttl_s:g}"}

        def keys() -> set[str]:
            return {
                f"{bucket.name}/{path.name}"
                for bucket in (site.registry / "v1").glob("*")
                for path in bucket.glob("*")
                if not path.name.startswith(".")
            }

        return cls(name="file", environment=environment, keys=keys)

    @classmethod
    def of_etcd(cls, etcd: EtcdServer, *, ttl_s: int) -> Backend:
        """A running etcd."""
        environment = {
            "DYN_DISCOVERY_BACKEND": "etcd",
            "ETCD_ENDPOINTS": etcd.url,
            "ETCD_LEASE_TTL": str(ttl_s),
        }

        def keys() -> set[str]:
            everything = base64.b64encode(b"\0").decode()
            found = etcd.call("kv/range", {"key": everything, "range_end": everything})
            return {base64.b64decode(each["key"]).decode() for each in found.get("kvs", [])}

        return cls(name="etcd", environment=environment, keys=keys, etcd=etcd)


def instance_of(worker: Process) -> str | None:
    """A ``muster worker``'s instance id in hexadecimal, once it has registered."""
    found = _SERVING.search(worker.text())
    return found[1] if found else None


def view_of(api: Api) -> dict[str, frozenset[str]]:
    """Who is in the fleet, by two pages of a frontend: instance ids in hexadecimal.

    Raises:
        OSError: It does not answer.
    """
    replicas = [
        replica
        for model in api.get("/v1/muster/models")["models"]
        for replica in model.get("replicas", ())
    ]
    instances = api.get("/health")["instances"]
    return {
        "health": frozenset(f"{each['instance_id']:x}" for each in instances),
        "models": frozenset(each["instance"] for each in replicas),
        "serving": frozenset(each["instance"] for each in replicas if each["state"] == "serving"),
    }


def resident_bytes(pid: int) -> int:
    """What a process has in memory (Linux)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    """How many file descriptors a process has open (Linux)."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


class SmallFleet:
    """Workers of one model and frontends, each a process.

    Args:
        site: Where they run.
        backend: Their registry.
        model: The model's directory.
        options: Options of each worker.
        environment: Beyond what the backend asks for.
    """

    NAME = "tiny"

    def __init__(
        self,
        site: Site,
        backend: Backend,
        model: Path,
        *,
        options: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self._site = site
        self._model = model
        self._options = options
        self._environment = backend.environment | (environment or {})
        self._started = 0
        self.backend = backend
        self.workers: list[Process] = []
        self.frontends: list[Api] = []

    @property
    def urls(self) -> list[str]:
        """Addresses of the frontends."""
        return [api.url for api in self.frontends]

    def start(self, *, workers: int, frontends: int) -> None:
        """Start so many of each; returns once every frontend sees every worker."""
        for _ in range(workers):
            self.workers.append(self.new_worker())
        for _ in range(frontends):
            self.frontends.append(self.new_frontend())
        self.settle()

    def new_worker(self) -> Process:
        """Start a worker; returns at once, and leaves it to the caller to count it in."""
        self._started += 1
        command = ["worker", "--model-path", str(self._model), "--model-name", self.NAME]
        return self._run(f"worker-{self._started}", [*command, *self._options])

    def new_frontend(self, port: int | None = None) -> Api:
        """Start a frontend on this port, its cache empty; returns at once, as ``new_worker``."""
        self._started += 1
        port = port or free_port()
        command = ["frontend", "--http-host", "127.0.0.1", "--http-port", str(port)]
        return Api(self._run(f"frontend-{self._started}", command), port)

    def processes(self) -> list[Process]:
        """All of them, running or not."""
        return [*self.workers, *(api.process for api in self.frontends)]

    def replace(self, process: Process) -> None:
        """Start another in the place of a process; a frontend's listens on the same port."""
        for place, worker in enumerate(self.workers):
            if worker is process:
                self.workers[place] = self.new_worker()
        for place, api in enumerate(self.frontends):
            if api.process is process:
                self.frontends[place] = self.new_frontend(int(api.url.rpartition(":")[2]))

    def _run(self, role: str, command: list[str]) -> Process:
        whole = [sys.executable, "-m", "muster.cli.main", *command]
        return self._site.start(role, whole, **self._environment)

    # -- who is there ------------------------------------------------------------------------

    def living(self) -> frozenset[str]:
        """The truth: instance ids of the workers that run.

        Raises:
            OSError: One that runs has not registered yet.
        """
        found = [instance_of(worker) for worker in self.workers if worker.is_running()]
        known = frozenset(each for each in found if each is not None)
        if len(known) < len(found):
            raise BlockingIOError("a worker is still starting")
        return known

    def views(self) -> dict[str, frozenset[str]]:
        """What every frontend says, and the registry by ``muster ls``.

        Raises:
            OSError: A frontend that should run does not answer.
        """
        found = {
            f"{api.url} {page}": ids for api in self.frontends for page, ids in view_of(api).items()
        }
        return found | self.listing()

    def listing(self) -> dict[str, frozenset[str]]:
        """What ``muster ls --json`` shows.

        Raises:
            BlockingIOError: The registry is out of its reach.
        """
        url = self.frontends[0].url if self.frontends else "http://127.0.0.1:1"
        site = {"DYN_FILE_KV": str(self._site.registry), "HOME": str(self._site.root)}
        done = subprocess.run(
            [sys.executable, "-m", "muster.cli.main", "ls", "--frontend", url, "--json"],
            env={"PATH": os.environ.get("PATH", "")} | site | self._environment,
            capture_output=True,
            timeout=_LS_S,
            check=False,
        )
        if done.returncode:
            raise BlockingIOError(done.stderr.decode("utf-8", "replace"))
        shown: Any = json.loads(done.stdout)
        return {
            f"ls {part}": frozenset(row["instance"] for row in shown[part])
            for part in ("models", "instances")
        }

    def disagreements(self) -> dict[str, Any]:
        """Every place that says something else than the truth; empty if there is none."""
        truth = self.living()
        return {
            place: {"missing": sorted(truth - ids), "too many": sorted(ids - truth)}
            for place, ids in self.views().items()
            if ids != truth
        }

    def settle(self, timeout_s: float = 30.0) -> None:
        """Wait until every place says the truth.

        Raises:
            TimeoutError: One says something else, or could not be asked; the message has it.
        """
        last: Any = "nothing was asked"

        def agree() -> bool:
            nonlocal last
            try:
                last = self.disagreements()
            except OSError as error:
                last = error
                return False
            return not last

        try:
            wait_until(agree, "every place knows who lives", timeout_s=timeout_s)
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {last}") from None

    def status_url(self, worker: Process) -> str:
        """Address of a worker's status server."""
        found = _STATUS_URL.search(worker.text())
        if found is None:
            raise ValueError(f"{worker.name} has not said where its status server is")
        return found[1]
