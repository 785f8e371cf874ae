"""Model metadata with a real Dynamo on the other end: names, a shared cache, faults of its worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

AWKWARD = [
    "weird name%20é.json",
    "a#b.json",
    "c?d.json",
    "back\\slash.json",
    "-lead.json",
    "ü" * 30,
]
"""1.6.1 advertises most of these under URLs that its own worker answers with 404."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    return write_tiny_model(directory)


def dynamo_cache(site: Site) -> Path:
    return site.home("dynamo-frontend") / ".cache" / "dynamo" / "mdc"


def blobs(cache: Path) -> dict[str, int]:
    """Every blob, and when it was last written."""
    return {path.name: path.stat().st_mtime_ns for path in (cache / "blobs").iterdir()}


def file_states(report: list[dict[str, object]]) -> set[object]:
    (model,) = report
    files = model["files"]
    assert isinstance(files, list)
    return {file["state"] for file in files}


def test_awkward_names_travel_from_a_muster_worker_to_a_dynamo_frontend(
    site: Site, model: Path
) -> None:
    for number, name in enumerate(AWKWARD):
        (model / name).write_text(f"content {number}")
    site.worker(model, "tiny", "--speedup-ratio", "0")
    dynamo = site.dynamo_frontend()
    dynamo.wait_for_model("tiny")
    held = {path.read_bytes() for path in (dynamo_cache(site) / "blobs").iterdir()}
    assert {path.read_bytes() for path in model.iterdir()} <= held
    assert dynamo.chat("tiny")["usage"]["completion_tokens"] == 16


def test_a_muster_frontend_finds_in_dynamos_cache_what_dynamo_fetched(
    site: Site, model: Path
) -> None:
    site.worker(model, "tiny", "--speedup-ratio", "0")
    site.dynamo_frontend().wait_for_model("tiny")
    before = blobs(dynamo_cache(site))
    frontend = site.frontend("--cache-dir", str(dynamo_cache(site)))
    frontend.wait_for_model("tiny")
    assert file_states(frontend.get("/v1/muster/models")["models"]) == {"cached"}
    assert blobs(dynamo_cache(site)) == before


def test_a_dynamo_frontend_finds_in_its_cache_what_muster_fetched(site: Site, model: Path) -> None:
    worker = site.worker(model, "tiny", "--speedup-ratio", "0")
    site.frontend("--cache-dir", str(dynamo_cache(site))).wait_for_model("tiny")
    before = blobs(dynamo_cache(site))
    assert len(before) == len(list(model.iterdir()))
    dynamo = site.dynamo_frontend()
    dynamo.wait_for_model("tiny")
    assert blobs(dynamo_cache(site)) == before
    assert dynamo.chat("tiny")["usage"]["completion_tokens"] == 16
    assert worker.is_running()


def test_an_extra_file_beyond_dynamos_cap_does_not_hide_a_muster_workers_model(
    site: Site, model: Path
) -> None:
    """1.6.1 refuses the whole model for one extra file over 1 GiB, and offers such files itself."""
    with (model / "optimizer.ckpt").open("wb") as file:
        file.truncate((1 << 30) + 1)
    worker = site.worker(model, "tiny", "--speedup-ratio", "0")
    assert "optimizer.ckpt" in worker.text()
    site.dynamo_frontend().wait_for_model("tiny")


def test_files_of_a_dynamo_worker_without_hosting_are_read_under_allowed_roots_only(
    site: Site, model: Path
) -> None:
    site.dynamo_worker(model, "tiny", DYN_SELF_HOST_METADATA="0")
    told = site.frontend(role="told", MUSTER_FETCH_ROOTS=str(model.parent))
    untold = site.frontend(role="untold")
    told.wait_for_model("tiny")
    (why,) = wait_until(
        lambda: [
            each
            for each in untold.get("/v1/muster/models")["models"]
            if each["state"] == "retrying"
        ],
        "refused",
    )
    assert "MUSTER_FETCH_ROOTS" in why["message"]
    assert untold.get("/health")["status"] == "unavailable"


def test_a_card_that_names_etc_passwd_brings_nothing_here(site: Site, model: Path) -> None:
    """1.6.1 copies the file into its cache and links all of /etc beside it."""
    site.dynamo_worker(model, "tiny", DYN_SELF_HOST_METADATA="0")
    frontend = site.frontend(MUSTER_FETCH_ROOTS=str(model / "nothing"))
    wait_until(
        lambda: "untrusted" in str(frontend.get("/v1/muster/models")), "refused as untrusted"
    )
    assert frontend.models() == []
