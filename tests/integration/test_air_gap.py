"""Without a network nothing is missed: start and chat make no attempt to leave the machine."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from muster.content.store import BlobStore
from muster.discovery.memory import MemoryRegistry
from muster.model.pack.contents import survey_model
from muster.model.pack.read import PackReader
from muster.model.pack.unpack import import_pack
from muster.model.pack.write import write_pack, write_pack_file
from muster.testing.fleet import frontend, hosted_at, publish, worker
from muster.testing.loops import run
from muster.testing.metadata_server import MetadataServer
from muster.testing.site import Site
from muster.testing.waiting import wait_until
from muster.worker.engines.echo import EchoEngine

pytestmark = pytest.mark.timeout(180)

INSIDE = Path(__file__).with_name("air_gap_inside.py")
CANNOT = 77


def in_sealed_namespace(scenario: str, root: Path, model: Path) -> Any:
    """What ``air_gap_inside`` reports; skips where there can be no such namespace."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces with interfaces of their own need Linux and root")
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("unshare (util-linux) and ip (iproute2) are needed")
    command = ["unshare", "--net", "--mount", "--", sys.executable, str(INSIDE)]
    root.mkdir()
    result = subprocess.run(
        [*command, scenario, str(root), str(model)],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    if result.returncode == CANNOT or "unshare failed" in result.stderr:
        pytest.skip((result.stdout + result.stderr).strip())
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout)


def assert_sealed(done: Any) -> None:
    """Nothing left, and it would have been noticed."""
    assert done["left"] == []
    assert done["missed"] == 0
    control = " ".join(done["control"])
    assert "ip/17 198.51.100.53:53" in control  # the DNS query
    assert "ip/6 198.51.100.7:443" in control


def test_start_and_chat_do_not_try_to_leave_the_machine(tmp_path: Path, model: Path) -> None:
    done = in_sealed_namespace("self-hosting", tmp_path / "sealed", model)
    assert_sealed(done)
    assert done["reply"]["choices"][0]["message"]["content"]
    assert all("192.0.2.1" in each for each in done["addresses"])  # not by being on loopback alone


def test_a_packed_model_is_served_from_the_cache_alone_without_a_network(
    tmp_path: Path, model: Path
) -> None:
    done = in_sealed_namespace("cache", tmp_path / "sealed", model)
    assert_sealed(done)
    assert done["reply"]["choices"][0]["message"]["content"]


def test_an_imported_pack_serves_a_model_whose_files_nobody_has_any_more(
    site: Site, tmp_path: Path, model: Path
) -> None:
    contents = survey_model(model, "tiny")
    write_pack_file(tmp_path / "tiny.pack", contents.manifest, contents.path_of)
    site.worker(model, "tiny", DYN_SELF_HOST_METADATA="0")
    shutil.rmtree(model)
    without = site.frontend(role="without")
    wait_until(lambda: without.get("/health").get("models"), "the model is seen and not served")
    assert without.models() == []
    with (tmp_path / "tiny.pack").open("rb") as stream:
        import_pack(PackReader(stream, label="tiny.pack"), BlobStore(tmp_path / "cache"))
    api = site.frontend("--cache-dir", str(tmp_path / "cache"), role="with")
    api.wait_for_model("tiny")
    assert api.chat("tiny")["choices"][0]["message"]["content"]
    assert without.models() == []


def test_nobody_is_asked_for_files_that_were_imported(tmp_path: Path, model: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        contents = survey_model(model, "tiny")
        stream = io.BytesIO()
        write_pack(stream, contents.manifest, contents.path_of)
        stream.seek(0)
        import_pack(PackReader(stream, label="pack"), BlobStore(tmp_path / "cache"))
        async with (
            MetadataServer() as server,
            frontend(registry, tmp_path) as site,
            worker(registry) as runtime,
        ):
            endpoint = runtime.endpoint("ns.backend.generate")
            await runtime.serve(endpoint.id(), EchoEngine().generate)
            await publish(runtime, hosted_at(server, model), runtime.instance_id)
            await site.listed("tiny")
            assert await site.echo("from the cache") == "from the cache"
            assert server.requests == []

    run(scenario())
