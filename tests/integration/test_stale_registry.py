"""A real etcd that hangs, dies or is not there yet: frontends serve on, say so, and recover."""

from __future__ import annotations

import contextlib
import datetime
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.testing.api import Api
from muster.testing.etcd_server import EtcdServer
from muster.testing.ports import free_port
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.skipif(not EtcdServer.is_installed(), reason="there is no etcd on this machine"),
]

CHAT = "The sea is wide."


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path) as server:
        yield server


def on(url: str, **more: str) -> dict[str, str]:
    """Settings of a process whose registry is at ``url``; it notices trouble within two seconds."""
    return {
        "DYN_DISCOVERY_BACKEND": "etcd",
        "ETCD_ENDPOINTS": url,
        "ETCD_LEASE_TTL": "3",
        "ETCD_KEEPALIVE_TIMEOUT_SECONDS": "1",
        "ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS": "1",
    } | more


def status(frontend: Api, path: str = "/health") -> int:
    try:
        with urllib.request.urlopen(frontend.url + path, timeout=10) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def stale_seconds(frontend: Api) -> float:
    with urllib.request.urlopen(frontend.url + "/metrics", timeout=10) as reply:
        text = reply.read().decode()
    found = re.search(r"^muster_registry_stale_seconds (\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found[1])


def wait_stale(frontend: Api) -> Any:
    return wait_until(lambda: frontend.get("/health").get("registry"), "the registry is stale")


def wait_fresh(frontend: Api) -> None:
    wait_until(lambda: "registry" not in frontend.get("/health"), "the registry is fresh")


def says(frontend: Api, model: str) -> str:
    reply = frontend.chat(model)
    text: str = reply["choices"][0]["message"]["content"]
    return text


def ls(site: Site, *options: str, **env: str) -> tuple[int, str]:
    """Exit code and output of ``muster ls``."""
    command = [sys.executable, "-m", "muster.cli.main", "ls", *options]
    process = site.start(f"ls-{len(site.processes)}", command, **env)
    return process.wait(60), process.text()


@pytest.mark.parametrize("trouble", ["pause", "kill"])
def test_a_frontend_serves_on_says_since_when_the_registry_is_gone_and_recovers(
    site: Site, etcd: EtcdServer, model: Path, trouble: str
) -> None:
    site.worker(model, "tiny", "--engine", "echo", **on(etcd.url))
    frontend = site.frontend(**on(etcd.url))
    frontend.wait_for_model("tiny")
    assert (status(frontend), stale_seconds(frontend)) == (200, 0)
    assert "registry" not in frontend.get("/health")
    before = says(frontend, "tiny")

    getattr(etcd, trouble)()
    stale = wait_stale(frontend)
    since = datetime.datetime.fromisoformat(stale["stale_since"])
    assert since.tzinfo == datetime.UTC
    assert stale["reason"]
    assert status(frontend) == 200
    health = frontend.get("/health")
    assert health["status"] == "degraded"
    assert f"cannot be read since {stale['stale_since']}" in health["message"]
    assert health["instances"]
    report = frontend.get("/v1/muster/models")
    assert report["registry"] == frontend.get("/health")["registry"]
    assert [each["state"] for each in report["models"]] == ["serving"]
    assert stale_seconds(frontend) > 0
    assert frontend.models() == ["tiny"]
    assert says(frontend, "tiny") == before

    etcd.resume() if trouble == "pause" else etcd.start()
    wait_fresh(frontend)
    frontend.wait_for_model("tiny")
    assert stale_seconds(frontend) == 0
    assert frontend.get("/health")["status"] == "healthy"
    assert says(frontend, "tiny") == before
    assert "registry" not in frontend.get("/v1/muster/models")


def test_a_frontend_that_starts_before_its_registry_says_so_and_waits_for_it(
    site: Site, etcd: EtcdServer, model: Path
) -> None:
    etcd.kill()
    frontend = site.frontend(**on(etcd.url))
    assert status(frontend) == 503
    assert frontend.get("/health")["status"] == "unavailable"
    assert status(frontend, "/live") == 200
    reason = wait_until(
        lambda: "etcd cannot be reached" in frontend.get("/health")["registry"]["reason"],
        "the reason is known",
    )
    assert reason
    assert status(frontend) == 503
    assert stale_seconds(frontend) > 0
    assert frontend.process.is_running()

    etcd.start()
    wait_fresh(frontend)
    assert status(frontend) == 200
    site.worker(model, "tiny", **on(etcd.url))
    frontend.wait_for_model("tiny")
    assert says(frontend, "tiny")
    assert frontend.process.stop() == 0


def test_a_frontend_without_a_registry_ends_in_order(site: Site) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    frontend = site.frontend(**on(nowhere, ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS="60"))
    assert status(frontend) == 503
    assert frontend.process.stop() == 0
    assert "Traceback" not in frontend.process.text()


def test_a_worker_without_a_registry_waits_for_it_then_ends_and_says_why(
    site: Site, model: Path
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "muster.cli.main", "worker", "--model-path", str(model)]
    worker = site.start("worker", command, **on(nowhere))
    assert worker.wait(60) == 1
    text = worker.text()
    assert "Traceback" not in text
    assert "muster: " in text
    assert nowhere in text
    assert "ETCD_ENDPOINTS" in text


def test_a_worker_that_starts_with_its_registry_waits_for_it(
    site: Site, etcd: EtcdServer, model: Path
) -> None:
    etcd.kill()
    command = [sys.executable, "-m", "muster.cli.main", "worker", "--model-path", str(model)]
    late = on(etcd.url, ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS="60")
    worker = site.start("worker", command, **late)
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not worker.is_running(), "the worker ends", timeout_s=3)
    etcd.start()
    wait_until(lambda: "serving" in worker.text(), "the worker serves")
    assert worker.is_running()


def test_ls_ends_with_an_error_or_asks_the_frontend(
    site: Site, etcd: EtcdServer, model: Path
) -> None:
    site.worker(model, "tiny", **on(etcd.url))
    frontend = site.frontend(**on(etcd.url))
    frontend.wait_for_model("tiny")
    code, text = ls(site, "--frontend", frontend.url, **on(etcd.url))
    assert (code, "stale" in text) == (0, False)
    etcd.kill()
    wait_stale(frontend)

    code, text = ls(site, **on(etcd.url, DYN_HTTP_PORT=str(free_port())))
    assert code == 1
    assert "etcd cannot be reached" in text
    assert "Traceback" not in text

    code, text = ls(site, "--frontend", frontend.url, **on(etcd.url))
    assert code == 0
    assert re.search(r"registry stale since \S+Z: ", text)
    assert re.search(r"^tiny +dynamo/backend/generate +\w+ +tcp .* ready$", text, re.MULTILINE)
    assert "etcd cannot be reached" in text

    command = [sys.executable, "-m", "muster.cli.main", "model", "why", "--frontend", frontend.url]
    why = site.start("why", [*command, "tiny"], **on(etcd.url))
    assert why.wait(60) == 0
    assert "the registry cannot be read: etcd cannot be reached" in why.text()
    assert "the frontend has not read the registry for" in why.text()
    assert "tiny at dynamo/backend/generate is serving" in why.text()
