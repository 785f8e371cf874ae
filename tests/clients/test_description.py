"""What ``/openapi.json`` says holds: schemathesis finds no error of the server's and no undocumented answer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from muster.testing.deployment import Background, Running

HERE = Path(__file__).parent
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
ENDLESS = "/v1/muster/live"
"""A stream without an end: nothing that waits for whole answers can try it."""


@pytest.mark.timeout(170)
def test_schemathesis_finds_nothing(running: Background[Running], tmp_path: Path) -> None:
    url = running.value.site.url
    command = [
        *(sys.executable, "-m", "schemathesis.cli"),
        *("--no-color", "--config-file", str(HERE / "schemathesis.toml")),
        *("run", f"{url}/openapi.json", "--exclude-path", ENDLESS, "--checks", ",".join(CHECKS)),
    ]
    hooks = {
        "SCHEMATHESIS_HOOKS": str(HERE / "schema_hooks.py"),
        "PYTHONPATH": os.pathsep.join((str(HERE.parents[1]), os.environ.get("PYTHONPATH", ""))),
    }
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=150,
        cwd=tmp_path,
        env=os.environ | hooks,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    found = re.search(r"(\d+) generated", ended.stdout)
    assert found is not None, ended.stdout
    assert int(found[1]) > 1000
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as reply:
        answered = re.findall(
            r'requests_total{endpoint="(\w+)"[^}]*status="success"} (\d+)', reply.read().decode()
        )
    counts: Counter[str] = Counter()
    for endpoint, count in answered:
        counts[endpoint] += int(count)
    assert len(counts) >= 5, counts
    assert min(counts.values()) > 20, counts
