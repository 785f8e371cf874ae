"""What ``muster ls`` makes of registries and frontends in trouble."""

from __future__ import annotations

import json
import re
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(120)

NOBODY = "http://127.0.0.1:1"


def ls(registry: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "muster.cli.main", "ls", "--frontend", url, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "DYN_FILE_KV": str(registry)},
    )


def ls_json(registry: Path, url: str) -> Any:
    result = ls(registry, url, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


class Page(socketserver.StreamRequestHandler):
    """Answers any request with some page that is no frontend's; or with nothing at all."""

    body: bytes | None = b'["hello"]'

    def handle(self) -> None:
        self.rfile.readline()
        if self.body is None:
            self.server.over.wait(30)  # type: ignore[attr-defined]
            return
        head = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        self.wfile.write(head % len(self.body) + self.body)


class Silence(Page):
    body = None


@pytest.fixture(params=[Page, Silence])
def stranger(request: pytest.FixtureRequest) -> Iterator[str]:
    """Address of a server that is no frontend."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), request.param) as server:
        server.over = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.over.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def test_a_worker_with_another_card_is_refused_and_shown_so(
    site: Site, model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_tiny_model(other)
    (other / "added_tokens.json").write_text("{}")
    site.worker(model, "tiny")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    site.worker(other, "tiny", role="second")
    deadline = time.monotonic() + 30
    while frontend.get("/health")["status"] != "degraded" and time.monotonic() < deadline:
        time.sleep(0.05)

    found = ls_json(site.registry, frontend.url)
    assert sorted(row["state"] for row in found["models"]) == ["ready", "refused"]
    assert all(row["differs"] for row in found["models"])
    refused = next(row for row in found["models"] if row["state"] == "refused")
    assert refused["mdcsum"] in refused["message"]
    assert found["frontend"]["status"] == "degraded"

    text = ls(site.registry, frontend.url).stdout
    assert re.search(r"^tiny .* !=  2048 +http +ready$", text, re.MULTILINE)
    assert re.search(r"^tiny .* !=  2048 +http +refused$", text, re.MULTILINE)
    assert "tiny at dynamo/backend/generate has 2 different cards" in text
    assert "  tiny is refused (" in text


def test_an_instance_that_gets_no_requests_is_shown_with_the_reason(
    site: Site, model: Path
) -> None:
    site.worker(model, "tiny")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    (name,) = site.records("v1/instances")
    (record,) = site.records("v1/instances").values()
    bare = record | {"instance_id": 0xAB, "transport": {"nats_tcp": "dynamo_backend.generate-ab"}}
    path = site.registry / "v1" / "instances" / f"{name.rpartition('%2F')[0]}%2Fab"

    def shown() -> str:
        path.write_text(json.dumps(bare))  # also keeps it alive
        text = ls(site.registry, frontend.url).stdout
        return text if "instance ab gets" in text else ""

    text = wait_until(shown, "the instance is seen")
    assert (
        "  tiny at dynamo/backend/generate: instance ab gets no requests: it has registered no model"
    ) in text.splitlines()
    assert re.search(r"^tiny +\S+ +[0-9a-f]+ +tcp .* ready$", text, re.MULTILINE)
    assert re.search(r"^dynamo/backend/generate +ab +nats_tcp +dynamo_backend", text, re.MULTILINE)


def test_a_registry_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = ls(tmp_path / "file", NOBODY)
    assert result.returncode == 1
    assert str(tmp_path / "file") in result.stderr
    assert "hint: " in result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_registry_and_no_frontend_are_none(tmp_path: Path) -> None:
    result = ls(tmp_path / "none", NOBODY)
    assert result.returncode == 0
    assert result.stdout == "no models\n"
    assert f"no frontend answers at {NOBODY}" in result.stderr


def test_a_server_that_is_no_frontend_is_named_as_such(stranger: str, tmp_path: Path) -> None:
    found = ls_json(tmp_path, stranger)["frontend"]
    assert found["status"] == "unreachable"
    assert re.match("its /health is not a frontend's|no answer within 3 s", found["message"])


def test_records_nobody_can_read_and_names_with_escapes_are_harmless(tmp_path: Path) -> None:
    bucket = tmp_path / "v1" / "mdc"
    bucket.mkdir(parents=True)
    (bucket / "dynamo%2Fbackend%2Fgenerate%2F1").write_text("not json")
    card = {"display_name": "evil\u001b[31m\n"}
    record = {
        "type": "Model", "namespace": "dynamo", "component": "backend", "endpoint": "generate",
        "instance_id": 2, "card_json": card,
    }  # fmt: skip
    (bucket / "dynamo%2Fbackend%2Fgenerate%2F2").write_text(json.dumps(record))
    result = ls(tmp_path, NOBODY)
    assert result.returncode == 0
    assert "\x1b" not in result.stdout
    assert "evil\\x1b[31m\\n" in result.stdout
    assert len([line for line in result.stdout.splitlines() if "unreadable: " in line]) == 2
