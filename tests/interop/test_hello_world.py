"""Dynamo's hello world on Muster by changing imports only, and each half beside the other's.

The scripts are those of the page ``docs/how-to/from-dynamo.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.testing.process import Process
from muster.testing.site import Site
from muster.testing.waiting import wait_until

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "from-dynamo.md"
GREETINGS = ["Hello, earth!", "Hello, moon!", "Hello, sun!"]

pytestmark = [pytest.mark.timeout(120)]


def scripts() -> tuple[str, str, str]:
    """The page's worker, client and changed line."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    worker, client, changed = blocks
    return worker, client, changed.strip()


def start(site: Site, script: str, *, role: str, kind: str) -> Process:
    if kind == "dynamo":
        return site.dynamo_script(script, role=role)
    return site.script(script.replace("from dynamo.runtime", "from muster.runtime"), role=role)


def said(process: Process, word: str) -> list[str]:
    """The lines that begin so; Dynamo writes its log among them."""
    return [line for line in process.text().splitlines() if line.startswith(word)]


def check(site: Site, worker_kind: str, client_kind: str) -> None:
    worker_script, client_script, _ = scripts()
    worker = start(site, worker_script, role="worker", kind=worker_kind)
    wait_until(lambda: site.records("v1/instances"), "endpoint registered")
    client = start(site, client_script, role="client", kind=client_kind)
    assert client.wait(60) == 0, client.text()
    assert said(client, "Hello") == GREETINGS
    instance = next(iter(site.records("v1/instances").values()))
    assert said(worker, "serving") == [f"serving as {instance['instance_id']:x}"]


@pytest.fixture
def lone_site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as site:
        yield site


def test_hello_world_runs_on_muster(lone_site: Site) -> None:
    check(lone_site, "muster", "muster")


@pytest.mark.peer
@pytest.mark.parametrize(
    ("worker_kind", "client_kind"),
    [("dynamo", "dynamo"), ("dynamo", "muster"), ("muster", "dynamo")],
)
def test_hello_world_runs_on_both_and_across(
    site: Site, worker_kind: str, client_kind: str
) -> None:
    check(site, worker_kind, client_kind)


def test_the_page_shows_the_line_that_changes() -> None:
    worker, client, changed = scripts()
    theirs = changed.replace("muster.runtime", "dynamo.runtime")
    assert theirs in worker
    assert re.findall(r"^from (?!__future__).*", client, re.MULTILINE) == [
        "from dynamo.runtime import dynamo_worker"
    ]
