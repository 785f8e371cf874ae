"""The way of a model's files through a site of real processes: who is asked, how often, and when."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import threading
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.testing.ports import free_port
from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(180)

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@pytest.fixture
def deepseek() -> Path:
    path = SHARED / "models" / "deepseek"
    if not path.is_dir():
        pytest.skip("../shared/models/deepseek is not here")
    return path


def served_files(site: Site) -> Counter[str]:
    """How many files each worker's status server has sent, by its address."""
    counts: Counter[str] = Counter()
    for record in site.records("v1/mdc").values():
        url = urllib.parse.urlsplit(record["card_json"]["tokenizer"]["hf_tokenizer_json"]["path"])
        with urllib.request.urlopen(f"http://{url.netloc}/metrics", timeout=10) as reply:
            text = reply.read().decode()
        found = re.search(
            r'^muster_metadata_requests_total\{outcome="served"\} (\S+)', text, re.MULTILINE
        )
        counts[url.netloc] = int(float(found[1])) if found else 0
    return counts


def settled(site: Site, process_text: str) -> bool:
    """Whether the worker has looked whether its own address answers."""
    return "metadata address" in process_text


def test_eight_cold_frontends_on_one_host_cost_one_get_a_file(site: Site, deepseek: Path) -> None:
    worker = site.worker(deepseek, "deep")
    wait_until(lambda: settled(site, worker.text()), "the worker has tried its own address")
    before = served_files(site).total()
    cache = site.root / "cache"
    frontends = [
        site.start_frontend("--cache-dir", str(cache), role=f"frontend{number}")
        for number in range(8)
    ]
    for frontend in frontends:
        frontend.wait_for_model("deep")
    assert served_files(site).total() - before == len(list(deepseek.iterdir()))
    assert sorted(path.stat().st_size for path in (cache / "blobs").iterdir()) == sorted(
        path.stat().st_size for path in deepseek.iterdir()
    )
    assert frontends[-1].chat("deep")["usage"]["completion_tokens"] == 16


@contextlib.contextmanager
def impostor(site: Site, fault: str) -> Iterator[None]:
    """Instance 1, with the card of the one worker there is and files that are not as it says."""
    port = free_port()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Corrupt)
    serving = threading.Thread(target=server.serve_forever)
    paths = []
    for bucket in ("v1/instances", "v1/mdc"):
        ((name, record),) = site.records(bucket).items()
        number = record["instance_id"]
        text = json.dumps(record | {"instance_id": 1})
        if bucket == "v1/mdc":
            text = re.sub(
                r"http://127\.0\.0\.1:[0-9]+/v1/metadata", f"http://127.0.0.1:{port}", text
            )
        else:
            text = re.sub(r'"127\.0\.0\.1:[0-9]+/[0-9a-f]+/', f'"127.0.0.1:{port}/1/', text)
        path = site.registry / bucket / name.replace(f"{number:x}", "1")
        path.write_text(text)
        paths.append(path)
    if fault == "corrupt":
        serving.start()
    else:
        server.server_close()
    try:
        yield
    finally:
        if fault == "corrupt":
            server.shutdown()
            serving.join()
            server.server_close()
        for path in paths:
            path.unlink(missing_ok=True)


class _Corrupt(http.server.BaseHTTPRequestHandler):
    """Answers every GET with a thousand zeros."""

    def do_GET(self) -> None:
        body = bytes(1000)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.mark.parametrize("fault", ["dead", "corrupt"])
def test_the_first_replica_dead_or_corrupt_the_second_good(
    site: Site, model: Path, fault: str
) -> None:
    """The bad one is the first by key, so that it is also the one whose card is taken."""
    good = site.worker(model, "tiny", role="good")
    with impostor(site, fault):
        frontend = site.frontend()
        frontend.wait_for_model("tiny")
        report = frontend.get("/v1/muster/models")["models"][0]
        assert report["state"] == "serving"
        assert not report.get("attempt")
        assert {file["state"] for file in report["files"]} == {"verified"}
        assert "will try again" not in frontend.process.text()
    assert good.is_running()


def test_drift_on_the_worker_is_told_and_not_served(site: Site, model: Path) -> None:
    config = model / "config.json"
    original = config.read_bytes()
    worker = site.worker(model, "tiny", MUSTER_DRIFT_CHECK_SECS="0.1")
    config.write_bytes(original.replace(b"2048", b"4096"))
    wait_until(lambda: "changed" in worker.text(), "the worker has noticed")
    (record,) = site.records("v1/mdc").values()
    url = record["card_json"]["model_info"]["hf_config_json"]["path"]
    with urllib.request.urlopen(url, timeout=10) as reply:
        assert reply.read() == original
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    assert frontend.get("/v1/models")["data"][0]["context_window"] == 2048
    status = record["card_json"]["muster"]["status"]
    with urllib.request.urlopen(f"{status}/v1/muster/files", timeout=10) as reply:
        drifted = [file["name"] for file in json.load(reply) if file["drifted"]]
    assert drifted == ["config.json"]


def test_x4_a_model_scaled_to_zero_comes_back_from_the_cache_alone(site: Site, model: Path) -> None:
    worker = site.worker(model, "tiny")
    cache = ("--cache-dir", str(site.root / "cache"))
    site.frontend(*cache, role="first").wait_for_model("tiny")
    assert worker.stop() == 0
    moved = write_tiny_model(_fresh(site.root / "moved"))
    # Comes back elsewhere, serving no files: the paths on its card mean nothing to the frontend.
    site.worker(moved, "tiny", role="again", DYN_SELF_HOST_METADATA="0")
    again = site.frontend(*cache, role="second")
    again.wait_for_model("tiny")
    assert again.chat("tiny")["usage"]["completion_tokens"] == 16
    assert {file["state"] for file in again.get("/v1/muster/models")["models"][0]["files"]} == {
        "cached"
    }


@pytest.mark.parametrize("name", ["http", "hub", "path"])
def test_t1_a_model_arrives_over_every_scheme(site: Site, tmp_path: Path, name: str) -> None:
    hub = tmp_path / "hub"
    snapshot = _fresh(hub / "models--Org--M" / "snapshots" / ("a" * 40))
    write_tiny_model(snapshot)
    refs = _fresh(hub / "models--Org--M" / "refs")
    (refs / "main").write_text("a" * 40)
    environment = {
        "http": {},
        "hub": {"DYN_SELF_HOST_METADATA": "0", "HF_HUB_CACHE": str(hub)},
        "path": {"DYN_SELF_HOST_METADATA": "0"},
    }[name]
    model = Path("Org/M") if name == "hub" else snapshot
    site.worker(model, "tiny", **environment)
    frontend = site.frontend(
        **({"HF_HUB_CACHE": str(hub)} if name == "hub" else {}),
        **({"MUSTER_FETCH_ROOTS": str(tmp_path)} if name == "path" else {}),
    )
    frontend.wait_for_model("tiny")
    (record,) = site.records("v1/mdc").values()
    path = record["card_json"]["model_info"]["hf_config_json"]["path"]
    assert path.partition(":")[0] == {"http": "http", "hub": "hf"}.get(name, path)
    assert frontend.chat("tiny")["usage"]["completion_tokens"] == 16


def _fresh(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def test_replicas_from_other_mounts_and_without_hosting_serve_together(
    site: Site, tmp_path: Path
) -> None:
    """peers 3, and the identity: same bytes, whatever the mount, hosted or not."""
    for number in range(3):
        directory = write_tiny_model(_fresh(tmp_path / f"mount{number}" / "m"))
        environment = {"DYN_SELF_HOST_METADATA": "0"} if number == 2 else {}
        site.worker(directory, "tiny", role=f"worker{number}", **environment)
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    report = frontend.get("/v1/muster/models")["models"]
    wait_until(
        lambda: len(frontend.get("/v1/muster/models")["models"][0]["replicas"]) == 3, "all seen"
    )
    (report,) = frontend.get("/v1/muster/models")["models"]
    assert {replica["state"] for replica in report["replicas"]} == {"serving"}
    assert len({replica["mdcsum"] for replica in report["replicas"]}) > 1
    assert frontend.get("/health")["status"] == "healthy"


def test_a_token_is_asked_for_and_sent(site: Site, model: Path) -> None:
    secret = "s3cret-" + os.urandom(4).hex()
    site.worker(model, "tiny", MUSTER_METADATA_TOKEN=secret)
    without = site.frontend(role="without")
    with_token = site.frontend(role="with", MUSTER_METADATA_TOKEN=secret)
    with_token.wait_for_model("tiny")
    wait_until(lambda: "401" in json.dumps(without.get("/v1/muster/models")), "refused")
    assert without.models() == []
    for process in site.processes:
        assert secret not in process.text()
