"""Registering models (rows M1, W1-W7 of the design record) over a real runtime and status server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from muster.config.settings import MetadataSettings
from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.discovery.records import MODELS
from muster.errors import (
    CardError,
    ConflictError,
    DiscoveryError,
    InvalidArgument,
    NotRegisteredError,
)
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.publish.register import register_model, unregister_model
from muster.runtime import DistributedRuntime
from muster.testing.loops import run
from muster.testing.publishing import locations, publishing_worker
from muster.testing.runtimes import loopback_settings
from muster.testing.tiny_model import write_tiny_model

SURFACES = ModelType.Chat | ModelType.Completions


def test_w3_w4_every_slot_points_at_the_status_server_and_gives_its_bytes(model: Path) -> None:
    before = {path: path.read_bytes() for path in model.iterdir()}

    async def scenario() -> None:
        async with publishing_worker() as at:
            published = await at.register(model)
            (key,) = await at.cards()
            assert key == f"ns/comp/ep/{at.runtime.instance_id:x}"
            card = (await at.cards())[key]
            assert card.to_json_str() == published.card.to_json_str()
            base = f"{at.runtime.status_url}/v1/metadata/ns/comp/ep/acme_tiny/_base/"
            assert all(place.startswith(base) for place in locations(card))
            assert base.startswith("http://127.0.0.1:")
            assert await at.all_served(card)
            assert card.kv_cache_block_size == 16
            assert card.source_path == str(model)

    run(scenario())
    assert {path: path.read_bytes() for path in model.iterdir()} == before  # nothing was staged


def test_w2_the_route_is_there_before_any_model(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            url = f"{at.runtime.status_url}/v1/metadata/ns/comp/ep/x/_base/config.json"
            assert await at.get(url) == (404, b"Not found")

    run(scenario())


@pytest.mark.parametrize(
    ("keyword", "setting", "hosted"),
    [(None, True, True), (None, False, False), (True, False, True), (False, True, False)],
)
def test_w1_the_keyword_wins_over_the_setting(
    model: Path, keyword: bool | None, setting: bool, hosted: bool
) -> None:
    async def scenario() -> None:
        async with publishing_worker(metadata=MetadataSettings(self_host=setting)) as at:
            card = (await at.register(model, self_host_metadata=keyword)).card
            assert all(place.startswith("http://") is hosted for place in locations(card))
            assert at.runtime.metadata.is_empty() is not hosted

    run(scenario())


def test_w1_without_a_status_server_paths_stay_and_a_warning_says_so(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with publishing_worker(port=None) as at:
            card = (await at.register(model)).card
            assert locations(card)[0] == str(model / "config.json")
            assert card.extra_files == ()

    run(scenario())
    assert "self_host_metadata is ON but DYN_SYSTEM_PORT is unset" in caplog.text


@pytest.fixture
def hub(tmp_path: Path, model: Path) -> Path:
    """A hub cache that holds Acme/Tiny: names are links to blobs called by their hashes."""
    cache = tmp_path / "hub"
    repository = cache / "models--Acme--Tiny"
    snapshot = repository / "snapshots" / "abc123"
    for directory in (repository / "blobs", snapshot, repository / "refs"):
        directory.mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc123\n")
    (model / "model.safetensors").write_bytes(b"weights")
    for number, path in enumerate(sorted(model.iterdir())):
        blob = repository / "blobs" / f"{number:040x}"
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return cache


def test_w5_a_hub_caches_file_has_the_links_name_and_the_targets_bytes(hub: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker(metadata=MetadataSettings(hub_cache=hub)) as at:
            card = (await at.register("Acme/Tiny", None)).card
            assert card.display_name == card.source_path == "Acme/Tiny"
            names = {place.rpartition("/")[2] for place in locations(card)}
            assert {"config.json", "tokenizer.json"} <= names
            assert await at.all_served(card)

    run(scenario())


def test_w6_a_hub_model_not_hosted_here_points_at_the_hub(hub: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        custom = tmp_path / "mine.jinja"
        custom.write_text("{{ messages }}")
        async with publishing_worker(metadata=MetadataSettings(hub_cache=hub)) as at:
            card = (
                await at.register(
                    "Acme/Tiny", None, self_host_metadata=False, custom_template_path=custom
                )
            ).card
            assert "hf://Acme/Tiny/config.json" in locations(card)
            assert "hf://Acme/Tiny/tokenizer.json" in locations(card)
            assert card.chat_template_file is not None
            assert card.chat_template_file.is_custom
            assert card.chat_template_file.file.path == str(custom)

    run(scenario())


def test_w7_an_ipv6_address_is_bracketed_and_the_port_is_the_one_bound(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker(host="::1") as at:
            card = (await at.register(model)).card
            assert locations(card)[0].startswith("http://[::1]:")
            assert await at.all_served(card)

    run(scenario())


NAMES = ["per%cent.json", "a#b.json", "c?d.json", "sp ace.txt", "back\\slash.json", "é模.txt"]
NAMES += ["-dash.json", "plus+.txt", "%2F.json", "q'uote\".txt", "x" * 255, "é" * 127 + "x", "%"]
NAMES += ["%00", "%2e%2e", "new\nline.txt", "tab\t.txt", "\x01\x7f.txt", " lead", "trail ", "c:"]
NAMES += ["http:x", "a;b,c=d&e", "[l]{b}<a>|`^", "~", "\u202ertl.txt", "e\u0301.txt", "con."]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_travels(model: Path, name: str) -> None:
    async def scenario() -> None:
        (model / name).write_text(f"content of {name}")
        async with publishing_worker() as at:
            card = (await at.register(model)).card
            assert len(card.extra_files) >= 1
            assert await at.all_served(card)
            bodies = [(await at.get(file.url or ""))[1] for file in card.extra_files]
            assert f"content of {name}".encode() in bodies

    run(scenario())


def test_two_files_of_one_name_are_refused_and_nothing_is_left(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        custom = tmp_path / "other" / "tokenizer.json"
        custom.parent.mkdir()
        custom.write_text("{{ messages }}")
        async with publishing_worker() as at:
            with pytest.raises(CardError, match=r"two files .* are called 'tokenizer\.json'"):
                await at.register(model, custom_template_path=custom)
            assert at.runtime.metadata.is_empty()
            assert await at.cards() == {}

    run(scenario())


def test_a_registration_the_registry_refuses_leaves_nothing_served(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            at.discovery.broken = {"register"}
            with pytest.raises(DiscoveryError):
                await at.register(model)
            assert at.runtime.metadata.is_empty()
            at.discovery.broken = set()
            assert await at.all_served((await at.register(model)).card)

    run(scenario())


def test_a_registration_that_is_called_off_leaves_nothing_served(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            at.discovery.hanging.set()
            task = asyncio.create_task(at.register(model))
            await at.staged()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert at.runtime.metadata.is_empty()

    run(scenario())


def test_a_refused_re_registration_changes_nothing(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        other = tmp_path / "other"
        other.mkdir()
        write_tiny_model(other, context_length=99)
        async with publishing_worker() as at:
            card = (await at.register(model)).card
            with pytest.raises(ConflictError, match="registered already with another card"):
                await at.register(other)
            with pytest.raises(ConflictError, match="a different model 'acme/tiny' is already"):
                await at.register(model, "another/name")
            assert [c.mdcsum() for c in (await at.cards()).values()] == [card.mdcsum()]
            assert await at.all_served(card)
            again = await at.register(model)  # the same once more is no change
            assert again.card.mdcsum() == card.mdcsum()

    run(scenario())


def test_detaching_tells_the_registry_first_and_can_be_repeated(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            card = (await at.register(model)).card
            at.discovery.broken = {"deregister"}
            with pytest.raises(DiscoveryError):
                await unregister_model(at.endpoint)
            assert await at.all_served(card)
            at.discovery.broken = set()
            await unregister_model(at.endpoint)
            assert at.runtime.metadata.is_empty()
            assert await at.cards() == {}
            with pytest.raises(NotRegisteredError):
                await unregister_model(at.endpoint)

    run(scenario())


def test_m1_a_lora_has_files_of_its_own_and_leaves_the_base_alone(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            base = (await at.register(model)).card
            lora = (
                await at.register("adapter", None, lora_name="My/LoRA v1", base_model_path=model)
            ).card
            assert (lora.display_name, lora.slug) == ("My/LoRA v1", "my_lora_v1")
            assert lora.source_path == str(model)
            assert "/ep/my_lora_v1/my_lora_v1/config.json" in locations(lora)[0]
            assert set(await at.cards()) == {
                f"ns/comp/ep/{at.runtime.instance_id:x}",
                f"ns/comp/ep/{at.runtime.instance_id:x}/my_lora_v1",
            }
            assert await at.all_served(lora)
            await unregister_model(at.endpoint, "My/LoRA v1")
            assert await at.all_served(base)
            assert (await at.get(locations(lora)[0]))[0] == 404

    run(scenario())


def test_detaching_one_endpoint_leaves_the_other_served(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            second = at.runtime.endpoint("ns.comp.other")
            await at.register(model)
            kept = (await at.register(model, endpoint=second)).card
            await unregister_model(at.endpoint)
            assert await at.all_served(kept)
            assert len(await at.cards()) == 1

    run(scenario())


def test_closing_the_runtime_withdraws_its_models(model: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        settings = loopback_settings(system_port=0)
        watcher = MemoryDiscovery(registry)
        runtime = DistributedRuntime(
            settings=settings, discovery=MemoryDiscovery(registry), handle_signals=False
        )
        async with runtime:
            endpoint = runtime.endpoint("ns.comp.ep")
            await register_model(
                ModelInput.Tokens, SURFACES, endpoint, model, worker_type=WorkerType.Aggregated
            )
            assert len(await watcher.list(MODELS)) == 1
        assert await watcher.list(MODELS) == {}

    run(scenario())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"worker_type": WorkerType.Prefill}, "prefill"),
        ({"worker_type": WorkerType.Decode}, "must say which workers it needs"),
        ({"lora_name": "x"}, "lora_name and base_model_path"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(
    model: Path, more: dict[str, Any], words: str
) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            with pytest.raises(InvalidArgument, match=words):
                await at.register(model, **more)

    run(scenario())


def test_many_attach_and_detach_cycles_leak_nothing(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            await at.register(model)
            served = len(at.runtime.metadata)
            for number in range(20):
                name = f"lora-{number}"
                await at.register("adapter", None, lora_name=name, base_model_path=model)
                await unregister_model(at.endpoint, name)
            assert len(at.runtime.metadata) == served

    run(scenario())


def test_concurrent_registrations_of_one_model_make_one(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            found = await asyncio.gather(*(at.register(model) for _ in range(5)))
            assert len({each.card.mdcsum() for each in found}) == 1
            assert len(await at.cards()) == 1

    run(scenario())


def test_a_late_write_of_a_registration_called_off_is_undone(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            at.discovery.hanging.set()
            task = asyncio.create_task(at.register(model))
            await at.staged()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with at.discovery.watch(MODELS) as watch:
                at.discovery.let_go()
                values = [(await anext(aiter(watch))).value for _ in range(2)]
            assert values[0] is not None
            assert values[1] is None
            assert await at.all_served((await at.register(model)).card)

    run(scenario())


def test_a_card_the_registry_has_lost_counts_as_withdrawn(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            key = (await at.register(model)).key
            await at.discovery.deregister(MODELS, key)
            await unregister_model(at.endpoint)
            assert at.runtime.metadata.is_empty()
            assert await at.all_served((await at.register(model)).card)

    run(scenario())


def test_closing_with_a_registry_that_fails_stops_everything_else(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            second = at.runtime.endpoint("ns.comp.other")
            url = locations((await at.register(model)).card)[0]
            await at.register(model, endpoint=second)
            at.discovery.broken = {"deregister"}
            await at.runtime.close()
            with pytest.raises(aiohttp.ClientConnectionError):
                await at.get(url)
            with pytest.raises(DiscoveryError, match="shutting down"):
                await at.register(model)

    run(scenario())


@pytest.mark.parametrize("number", [-1, 2**40])
def test_a_card_nobody_could_read_is_refused_before_it_is_published(
    model: Path, number: int
) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            with pytest.raises(InvalidArgument, match="could not be read by others"):
                await at.register(model, kv_cache_block_size=number)
            assert at.runtime.metadata.is_empty()
            assert await at.cards() == {}

    run(scenario())


def test_a_model_without_files_is_published_by_name_alone() -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            card = (await at.register("nowhere", "acme/bare", skip_model_assets=True)).card
            assert (locations(card), card.tokenizer, card.kv_cache_block_size) == ([], None, 0)
            assert at.runtime.metadata.is_empty()

    run(scenario())


def test_a_name_too_long_for_dynamos_frontends_travels_with_a_warning(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (model / ("ü" * 127)).write_text("x")

    async def scenario() -> None:
        async with publishing_worker() as at:
            card = (await at.register(model)).card
            assert len(card.extra_files) > 0

    run(scenario())
    assert "too long for Dynamo's frontends" in caplog.text
