"""``muster model show | why | diff`` over real workers and a frontend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from muster.testing.ports import free_port
from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(120)


def muster(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "muster.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(site.root),
            "DYN_FILE_KV": str(site.registry),
            "DYN_HTTP_PORT": str(free_port()),
        },
    )


def parsed(site: Site, *arguments: str) -> Any:
    return json.loads(muster(site, *arguments, "--json").stdout)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The tiny model with another vocabulary size and a file more."""
    directory = tmp_path / "other"
    directory.mkdir()
    write_tiny_model(directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"vocab_size": 999}))
    (directory / "notes.txt").write_text("one\ntwo\n")
    return directory


def test_p1_why_and_diff_tell_which_replica_differs_in_what(
    site: Site, model: Path, other: Path
) -> None:
    (model / "notes.txt").write_text("one\n2\n")
    site.worker(model, "tiny", role="one")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    site.worker(other, "tiny", role="two")
    at = ("--frontend", frontend.url)
    wait_until(lambda: frontend.get("/health")["status"] == "degraded", "the other is refused")

    why = muster(site, "model", "why", "tiny", *at)
    assert why.returncode == 0
    assert "tiny at dynamo/backend/generate is serving" in why.stdout
    assert "is refused (incompatible)" in why.stdout
    assert "muster model diff tiny" in why.stdout
    story = parsed(site, "model", "why", "tiny", *at)
    (report,) = story["reports"]
    assert {file["state"] for file in report["files"]} == {"verified"}
    assert sorted(replica["state"] for replica in report["replicas"]) == ["refused", "serving"]

    diff = muster(site, "model", "diff", "tiny", *at)
    assert diff.returncode == 1
    assert "model_info config.json /vocab_size: 260 -> 999" in diff.stdout
    assert "-2" in diff.stdout
    assert "+two" in diff.stdout
    (found,) = parsed(site, "model", "diff", "tiny", *at)["differences"]
    files = {file["name"]: file for file in found["files"]}
    assert files["config.json"]["values"] == [
        {"pointer": "/vocab_size", "left": 260, "right": 999, "in_left": True, "in_right": True}
    ]
    assert files["notes.txt"]["kind"] == "text"
    assert not found["cosmetic"]

    ls = muster(site, "ls", *at)
    assert "different cards" in ls.stdout
    assert "incompatible" in ls.stdout


def test_replicas_that_differ_in_their_mount_alone_differ_in_nothing_that_matters(
    site: Site, model: Path, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    site.worker(model, "tiny", role="one")
    site.worker(write_tiny_model(mount), "tiny", role="two")
    diff = muster(site, "model", "diff", "tiny")
    assert diff.returncode == 1
    assert "/source_path" in diff.stdout
    assert "nothing that matters" in diff.stdout
    assert "!=" not in muster(site, "ls").stdout
    assert muster(site, "model", "show", "tiny").stdout.count("identity  blake3:") == 2


def test_one_card_differs_in_nothing(site: Site, model: Path) -> None:
    site.worker(model, "tiny")
    diff = muster(site, "model", "diff", "tiny")
    assert (diff.returncode, "no replica differs" in diff.stdout) == (0, True)


def test_without_a_frontend_the_registry_alone_is_explained(site: Site, model: Path) -> None:
    site.worker(model, "tiny", "--model-alias", "wee")
    why = muster(site, "model", "why", "wee")
    assert why.returncode == 1
    assert "no frontend of ours answers" in why.stdout
    assert "is registered by 1" in why.stdout
    show = muster(site, "model", "show", "wee")
    assert show.returncode == 0
    assert "tokenizer.json" in show.stdout
    (shown,) = parsed(site, "model", "show", "tiny")
    assert shown["card"]["display_name"] == "tiny"


@pytest.mark.parametrize("command", ["show", "why", "diff"])
def test_a_model_nobody_registered_is_said_to_be_unknown(site: Site, command: str) -> None:
    result = muster(site, "model", command, "no\x1bpe")
    assert result.returncode == (3 if command == "diff" else 1)
    assert "\x1b" not in result.stdout + result.stderr
    assert "is registered" in result.stdout + result.stderr


def test_files_out_of_reach_are_a_reason_with_the_next_attempt(site: Site, model: Path) -> None:
    worker = site.worker(model, "tiny")
    ((name, record),) = site.records("v1/mdc").items()
    port = free_port()
    served = record["card_json"]["muster"]["status"]
    text = json.dumps(record).replace(served, f"http://127.0.0.1:{port}")
    (site.registry / "v1" / "mdc" / name).write_text(text)
    frontend = site.frontend()
    at = ("--frontend", frontend.url)

    def retrying() -> Any:
        reports = parsed(site, "model", "why", "tiny", *at)["reports"]
        return next((each for each in reports if each["state"] == "retrying"), None)

    report = wait_until(retrying, "it is retried")
    assert report["code"] == "source"
    assert str(port) in report["message"]
    assert report["attempt"] >= 1
    why = muster(site, "model", "why", "tiny", *at)
    assert why.returncode == 1
    assert "does not say whether its files have changed" in why.stdout
    assert frontend.get("/health")["status"] == "unavailable"
    assert worker.is_running()


def test_an_unreadable_record_is_shown_as_such(site: Site, model: Path) -> None:
    site.worker(model, "tiny")
    ((name, record),) = site.records("v1/mdc").items()
    record["instance_id"] = 1
    del record["card_json"]["slug"]
    path = site.registry / "v1" / "mdc" / f"{name.rpartition('%2F')[0]}%2F1"
    path.write_text(json.dumps(record))
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    path.touch()
    why = muster(site, "model", "why", "tiny", "--frontend", frontend.url)
    assert "slug" in why.stdout
    path.touch()
    diff = muster(site, "model", "diff", "tiny")
    assert diff.returncode == 3
    assert "cannot be read" in diff.stdout
    path.touch()
    assert "cannot be read" in muster(site, "model", "show", "tiny").stdout


def test_a_source_that_has_drifted_is_said(site: Site, model: Path) -> None:
    worker = site.worker(model, "tiny", MUSTER_DRIFT_CHECK_SECS="0.1")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    (model / "config.json").write_text("{}")
    wait_until(lambda: "changed" in worker.text(), "the worker has noticed")
    why = muster(site, "model", "why", "tiny", "--frontend", frontend.url)
    assert why.returncode == 0
    assert "drift:" in why.stdout
    assert "config.json" in why.stdout


def test_wrong_usage_is_2(site: Site) -> None:
    assert muster(site, "model", "why").returncode == 2
    assert muster(site, "model", "why", "tiny", "--frontend", "nowhere").returncode == 2
    assert muster(site, "model", "tell", "tiny").returncode == 2
