"""``GET /v1/muster/models``, ``/health`` and metrics over a fleet in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from muster.discovery.memory import MemoryRegistry
from muster.discovery.records import INSTANCES, MODELS, Instance, Transport
from muster.frontend.report import FleetReport, ModelReport
from muster.model.model_type import ModelInput, WorkerType
from muster.model.publish.register import register_model, unregister_model
from muster.testing.fleet import SURFACES, FleetSite, frontend, hosted_at, publish, serve, worker
from muster.testing.loops import run
from muster.testing.metadata_server import MetadataServer, ranged, right, status
from muster.testing.tiny_model import write_tiny_model


async def look(site: FleetSite) -> FleetReport:
    code, content = await site.get("/v1/muster/models")
    assert code == 200
    return msgspec.convert(content, FleetReport)


async def only(site: FleetSite) -> ModelReport:
    (report,) = (await look(site)).models
    return report


def samples(site: FleetSite) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry()
    registry.register(site.fleet.journal)
    return {
        (sample.name, *(str(value) for _, value in sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
    }


def test_a_served_model_is_reported_whole(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            assert (await look(site)).models == ()
            (model / "notes.py").write_text("pass")
            await serve(runtime, model, model_aliases=["wee"])
            await site.listed("tiny")
            report = await only(site)
            assert (report.model, report.state, report.code) == ("tiny", "serving", "")
            assert report.endpoint == "ns/backend/generate"
            assert report.aliases == ("wee",)
            assert report.identity.startswith("blake3:")
            states = {file.name: file.state for file in report.files}
            assert states == {path.name: "verified" for path in model.iterdir()} | {
                "notes.py": "left_out"
            }
            assert {file.role for file in report.files} >= {"tokenizer", "extra"}
            (replica,) = report.replicas
            assert replica.state == "serving"
            assert replica.address.startswith("127.0.0.1:")
            again = await only(site)
            assert again.since == report.since
            found = samples(site)
            assert found["muster_files_total", "left_out"] == 1
            assert found["muster_files_total", "verified"] == len(states) - 1
            assert found["muster_replicas", "tiny", "serving"] == 1
            assert found["muster_routable_seconds_count",] == 1
            assert [
                record.message for record in caplog.records if record.message == "model serving"
            ] == ["model serving"]

    run(scenario())


def test_a_lora_is_a_model_of_its_own(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, model)
            endpoint = runtime.endpoint("ns.backend.generate")
            await register_model(
                ModelInput.Tokens,
                SURFACES,
                endpoint,
                model,
                worker_type=WorkerType.Aggregated,
                lora_name="adapter",
                base_model_path=model,
            )
            await site.listed("adapter", "tiny")
            reports = {report.model: report for report in (await look(site)).models}
            assert reports["adapter"].lora == "adapter"
            assert reports["tiny"].lora == ""
            await unregister_model(endpoint, "adapter")
            await site.listed("tiny")

    run(scenario())


def test_p7_nothing_served_is_503_and_says_why_and_when_it_is_tried_again(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            MetadataServer() as server,
            worker(registry) as runtime,
            frontend(registry, tmp_path) as site,
        ):
            for path in model.iterdir():
                server.add(f"/{path.name}", right(path.read_bytes()))
            server.add("/tokenizer.json", status(404))
            await publish(runtime, hosted_at(server, model))
            await site.until(lambda: any(each.state == "retrying" for each in site.unserved))
            report = await only(site)
            assert (report.state, report.code) == ("retrying", "source")
            assert "404" in report.message
            assert report.attempt > 0
            failed = next(file for file in report.files if file.name == "tokenizer.json")
            assert (failed.state, failed.code) == ("failed", "source")
            code, health = await site.get("/health")
            assert (code, health["status"]) == (503, "unavailable")
            assert "404" in health["message"]
            server.add("/tokenizer.json", ranged((model / "tokenizer.json").read_bytes()))
            await site.listed("tiny")
            assert (await site.get("/health"))[0] == 200

    run(scenario())


def test_a_required_model_that_is_missing_makes_health_503(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            frontend(registry, tmp_path, require_models=("tiny", "wanted")) as site,
            worker(registry) as runtime,
        ):
            code, health = await site.get("/health")
            assert code == 503
            assert "'wanted' is required and not served" in health["message"]
            await serve(runtime, model)
            await site.listed("tiny")
            code, health = await site.get("/health")
            assert code == 503
            assert "'tiny'" not in health["message"]
            await serve(runtime, model, "wanted", "ns.other.generate")
            await site.listed("tiny", "wanted")
            assert (await site.get("/health"))[0] == 200

    run(scenario())


def test_p2_p17_a_failed_rollout_leaves_the_old_serving_and_a_good_one_takes_over(
    model: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    write_tiny_model(new, context_length=1024)

    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as rollout:
            async with worker(registry) as old:
                await serve(old, model)
                await site.listed("tiny")
                await serve(rollout, new)
                await site.until(lambda: len(site.unserved) == 1)
                report = await only(site)
                states = sorted((each.state, each.code) for each in report.replicas)
                assert states == [("refused", "incompatible"), ("serving", "")]
                assert await site.echo("old") == "old"
                code, health = await site.get("/health")
                assert (code, health["status"]) == (200, "degraded")
            await site.until(lambda: not site.unserved and site.models == ["tiny"])
            assert (await only(site)).replicas[0].state == "serving"
            assert await site.echo("new") == "new"

    run(scenario())


def test_p5_an_address_that_changes_under_one_key_is_followed(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, model)
            await site.listed("tiny")
            ((key, value),) = (await runtime.discovery.list(INSTANCES)).items()
            real = Instance.from_json(value)
            moved = msgspec.structs.replace(
                real, transport=Transport(real.transport.kind, "127.0.0.1:1/1/x")
            )
            await runtime.discovery.register(INSTANCES, key, moved.to_json())
            await site.until(
                lambda: site.fleet.table.instances()[0].transport.address.startswith("127.0.0.1:1/")
            )
            code, _ = await site.post("/v1/completions", {"model": "tiny", "prompt": "x"})
            assert code == 503
            await runtime.discovery.register(INSTANCES, key, real.to_json())
            await site.until(lambda: site.fleet.table.instances()[0] == real)
            assert await site.echo("back") == "back"

    run(scenario())


def test_p20_a_served_name_is_never_used_as_a_path_or_a_repository(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            for name in (str(model), "../../etc/passwd", "Org/Not-On-Any-Hub"):
                await serve(runtime, model, name, f"ns.c{abs(hash(name))}.generate")
            await site.until(lambda: len(site.models) == 3)
            assert await site.echo("x", model="../../etc/passwd") == "x"
            assert not (tmp_path / "etc").exists()

    run(scenario())


@pytest.mark.parametrize("extension", [None, "text", {"identity": 7, "blobs": "ftp://h"}, {"x": 1}])
def test_p21_cards_with_and_without_our_key_are_read(
    model: Path, tmp_path: Path, extension: Any
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, model)
            ((key, value),) = (await runtime.discovery.list(MODELS)).items()
            record = json.loads(value)
            record["card_json"].pop("muster")
            if extension is not None:
                record["card_json"]["muster"] = extension
            record["card_json"]["a_field_of_2031"] = {"deep": [1]}
            await runtime.discovery.register(MODELS, key, json.dumps(record).encode())
            await site.listed("tiny")
            await site.until(lambda: not site.unserved)
            report = await only(site)
            assert report.identity == ""
            assert await site.echo("x") == "x"

    run(scenario())


def test_a_report_says_since_when_the_registry_cannot_be_read(tmp_path: Path) -> None:
    from muster.discovery.memory import MemoryDiscovery
    from muster.testing.fragile import FragileDiscovery

    async def scenario() -> None:
        registry = MemoryRegistry()
        discovery = FragileDiscovery(MemoryDiscovery(registry))
        discovery.broken = {"watch"}
        async with frontend(registry, tmp_path, discovery=discovery) as site:
            await site.until(lambda: "told to fail" in site.fleet.registry.trouble())
            report = await look(site)
            assert report.stale_since is not None
            assert report.registry
            assert "was told to fail" in report.registry.reason
            discovery.broken = set()
            await site.until(lambda: not site.fleet.registry.trouble())
            report = await look(site)
            assert (report.stale_since, report.registry) == (None, msgspec.UNSET)

    run(scenario())
