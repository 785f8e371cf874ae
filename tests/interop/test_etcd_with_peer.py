"""A real Dynamo 1.6.1 and Muster on one real etcd, both directions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.testing.api import Api
from muster.testing.etcd_server import EtcdServer
from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until

pytestmark = [
    pytest.mark.peer,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not EtcdServer.is_installed(), reason="there is no etcd on this machine"),
]

TTL_S = 4


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path) as server:
        yield server


@pytest.fixture
def on_etcd(etcd: EtcdServer) -> dict[str, str]:
    """The environment of every process."""
    return {
        "DYN_DISCOVERY_BACKEND": "etcd",
        "ETCD_ENDPOINTS": etcd.url,
        "ETCD_LEASE_TTL": str(TTL_S),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    return write_tiny_model(directory)


def start_mocker(site: Site, etcd: EtcdServer, model: Path, env: dict[str, str]) -> Any:
    """A ``dynamo.mocker`` on etcd; returns once its card is there."""
    before = len(etcd.records("v1/mdc"))
    python = str(site.peer / "bin" / "python") if site.peer else ""
    command = [python, "-m", "dynamo.mocker", "--model-path", str(model), "--model-name", "tiny"]
    command += ["--request-plane", "tcp", "--event-plane", "zmq", "--discovery-backend", "etcd"]
    command += ["--speedup-ratio", "1000000"]
    process = site.start("mocker", command, DYN_LOG="warn", DYN_SYSTEM_PORT="0", **env)
    wait_until(lambda: len(etcd.records("v1/mdc")) > before, "mocker registered")
    return process


def replies(frontend: Api, model: str) -> bool:
    frontend.wait_for_model(model)
    answer = frontend.chat(model)
    assert answer["choices"][0]["finish_reason"]
    assert [*frontend.stream(model)][-1] == "[DONE]"
    return True


def test_t2_attach_watch_resolve_through_etcd_and_a_dynamo_frontend_serves_it(
    site: Site, etcd: EtcdServer, on_etcd: dict[str, str], model: Path
) -> None:
    worker = site.worker(model, "tiny", DYN_SYSTEM_PORT="0", **on_etcd)
    (key,) = etcd.records("v1/instances")
    record = etcd.records("v1/instances")[key]
    assert key == f"dynamo/backend/generate/{record['instance_id']:x}"
    assert etcd.lease_of(f"v1/instances/{key}") == record["instance_id"]
    ours = site.frontend(**on_etcd)
    theirs = site.dynamo_frontend("--discovery-backend", "etcd", **on_etcd)
    for frontend in (ours, theirs):
        assert replies(frontend, "tiny")
    cached = [*(site.home("frontend") / ".cache" / "muster").rglob("tokenizer.json")]
    assert cached, "the frontend's cache holds the worker's tokenizer"
    assert worker.stop() == 0
    assert etcd.records("v1/instances") == {}
    for frontend in (ours, theirs):
        frontend.wait_for_no_model("tiny", timeout_s=20)


def test_a_dynamo_worker_on_etcd_is_served_by_our_frontend_and_forgotten_when_it_dies(
    site: Site, etcd: EtcdServer, on_etcd: dict[str, str], model: Path
) -> None:
    mocker = start_mocker(site, etcd, model, on_etcd)
    frontend = site.frontend("--model-path", str(model), **on_etcd)
    assert replies(frontend, "tiny")
    mocker.kill()
    frontend.wait_for_no_model("tiny", timeout_s=TTL_S + 20)


@pytest.mark.parametrize("how", ["hang", "wipe"])
def test_our_fleet_outlives_what_ends_a_dynamo_worker(
    site: Site, etcd: EtcdServer, on_etcd: dict[str, str], model: Path, how: str
) -> None:
    ours = site.worker(model, "tiny", **on_etcd)
    frontend = site.frontend(**on_etcd)
    assert replies(frontend, "tiny")
    before = etcd.records("v1/instances")
    if how == "hang":
        etcd.pause()
        time.sleep(TTL_S + 3)
        assert frontend.chat("tiny")["choices"]
        etcd.resume()
    else:
        etcd.wipe()
        time.sleep(1)
        assert frontend.chat("tiny")["choices"]
        etcd.start()
    wait_until(lambda: etcd.records("v1/instances") == before, "the same instance again")
    assert frontend.chat("tiny")["choices"]
    assert ours.is_running()
    assert json.dumps(etcd.records("v1/mdc"))
    theirs = site.dynamo_frontend("--discovery-backend", "etcd", **on_etcd)
    assert replies(theirs, "tiny")
