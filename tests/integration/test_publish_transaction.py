"""A registration happens whole or not at all, whatever fails or calls it off."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

from muster.discovery.records import MODELS
from muster.errors import ConflictError, DigestMismatchError, DiscoveryError, MusterError
from muster.model.card import ModelDeploymentCard
from muster.model.model_type import ModelType
from muster.model.publish.publication import Publication
from muster.model.publish.publisher import Publisher
from muster.model.publish.register import unregister_model
from muster.model.runtime_config import ModelRuntimeConfig
from muster.testing.loops import run
from muster.testing.publishing import PublishingWorker, locations, publishing_worker
from muster.testing.tiny_model import write_tiny_model


def copies() -> int:
    """How many unnamed files this process holds open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            count += os.readlink(f"/proc/self/fd/{name}").endswith(" (deleted)")  # noqa: PTH115
        except OSError:  # it was closed meanwhile
            continue
    return count


async def settle(expected: int) -> None:
    """Wait until that many copies are open; they are closed by threads."""
    while copies() != expected:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def urls(at: PublishingWorker) -> str:
    return f"{at.runtime.status_url}/v1/metadata/ns/comp/ep/acme_tiny/_base/config.json"


def test_nothing_is_reachable_before_the_registry_has_the_card(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            at.discovery.hanging.set()
            task = asyncio.create_task(at.register(model))
            await at.staged()
            status, body = await at.get(urls(at))
            assert status in (404, 503)
            assert body != (model / "config.json").read_bytes()
            digest = ModelDeploymentCard.load(model, "x").model_info
            assert digest is not None
            blob = f"{at.runtime.status_url}/v1/blobs/{digest.file.checksum.hex}"
            assert (await at.get(blob))[0] == 404
            assert at.runtime.metadata.is_empty()
            at.discovery.let_go()
            assert await at.all_served((await task).card)

    run(scenario())


@pytest.mark.parametrize("cancel", [False, True])
def test_what_fails_or_is_called_off_leaves_no_copies(model: Path, cancel: bool) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            await asyncio.to_thread(int)  # whatever a first thread opens
            before = copies()
            if cancel:
                at.discovery.hanging.set()
            else:
                at.discovery.broken = {"register"}
            task = asyncio.create_task(at.register(model))
            if cancel:
                await at.staged()
                assert copies() > before
                task.cancel()
            with pytest.raises((asyncio.CancelledError, DiscoveryError)):
                await task
            await settle(before)
            at.discovery.let_go()

    run(scenario())


def test_cancelling_at_any_moment_leaves_all_or_nothing(model: Path) -> None:
    """The card is in the registry exactly if its files are served."""

    async def scenario() -> None:
        async with publishing_worker() as at:
            before, outcomes, steps = copies(), set(), 0
            while "registered" not in outcomes:
                task = asyncio.create_task(at.register(model))
                for _ in range(steps):
                    await asyncio.sleep(0.0002)
                task.cancel()
                steps += 1 + steps // 8
                try:
                    card = (await task).card
                except asyncio.CancelledError:
                    outcomes.add("called off")
                    while await at.cards():  # noqa: ASYNC110 - a late write is being undone
                        await asyncio.sleep(0.001)
                    assert at.runtime.metadata.is_empty()
                    await settle(before)
                else:
                    outcomes.add("registered")
                    assert await at.all_served(card)
                    assert len(await at.cards()) == 1
            assert "called off" in outcomes

    run(scenario(), timeout_s=60)


def test_a_card_whose_file_changed_after_it_was_read_is_refused(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            card = ModelDeploymentCard.load(model, "acme/tiny")
            (model / "config.json").write_text("{}")
            with pytest.raises(DigestMismatchError, match="changed while it was being registered"):
                await Publisher.of(at.runtime).publish(
                    card, at.endpoint.id(), directory=model, self_host=True
                )
            assert at.runtime.metadata.is_empty()
            assert await at.cards() == {}

    run(scenario())


CHANGES: list[dict[str, Any]] = [
    {"user_data": {"zone": "b"}},
    {"runtime_config": ModelRuntimeConfig(taints=("slow",))},
    {"self_host_metadata": False},
]


def without_extras(model: Path) -> None:
    """Leave the typed files alone, so that hosting does not show in the card's digest."""
    for path in [*model.iterdir()]:
        if path.name not in {"config.json", "tokenizer.json"}:
            path.unlink()


@pytest.mark.parametrize("change", CHANGES)
def test_a_permitted_change_takes_the_others_place_at_once(
    model: Path, change: dict[str, Any]
) -> None:
    without_extras(model)

    async def scenario() -> None:
        async with publishing_worker() as at:
            first = await at.register(model)
            held = copies()
            misses = 0
            done = asyncio.Event()

            async def ask(session: aiohttp.ClientSession) -> None:
                nonlocal misses
                while not done.is_set():
                    async with session.get(URL(locations(first.card)[0], encoded=True)) as reply:
                        misses += reply.status != 200
                        await reply.read()

            async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
                hosted = change.get("self_host_metadata", True)
                if hosted:
                    group.create_task(ask(session))
                second = await at.register(model, **change)
                done.set()
            assert misses == 0
            assert second.card != first.card
            assert second.card.mdcsum() == first.card.mdcsum()
            assert second.identity == first.identity
            ((key, card),) = (await at.cards()).items()
            assert key == first.key
            assert card.to_json_str() == second.card.to_json_str()
            if hosted:
                assert await at.all_served(card)
                await settle(held)
            else:
                assert at.runtime.metadata.is_empty()
                await settle(held - 2)
            await unregister_model(at.endpoint)
            assert at.runtime.metadata.is_empty()

    run(scenario())


def test_a_permitted_change_the_registry_refuses_changes_nothing(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            first = await at.register(model)
            held = copies()
            at.discovery.broken = {"register"}
            with pytest.raises(DiscoveryError):
                await at.register(model, user_data={"zone": "b"})
            (card,) = (await at.cards()).values()
            assert card.to_json_str() == first.card.to_json_str()
            assert await at.all_served(first.card)
            await settle(held)

    run(scenario())


def test_a_permitted_change_called_off_is_undone_when_it_is_written_late(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            first = await at.register(model)
            at.discovery.hanging.set()
            task = asyncio.create_task(at.register(model, user_data={"zone": "b"}))
            await at.staged()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with at.discovery.watch(MODELS) as watch:
                at.discovery.let_go()
                values = [(await anext(aiter(watch))).value or b"" for _ in range(2)]
            assert b'"zone"' in values[0]
            assert b'"zone"' not in values[1]
            assert await at.all_served(first.card)

    run(scenario())


def test_a_registration_waits_for_the_late_write_of_one_called_off(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            at.discovery.hanging.set()
            task = asyncio.create_task(at.register(model, user_data={"number": 1}))
            await at.staged()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            second = asyncio.create_task(at.register(model, user_data={"number": 2}))
            await asyncio.sleep(0.05)
            assert not second.done()
            at.discovery.let_go()
            card = (await second).card
            await asyncio.sleep(0.05)  # for the first one's undoing, which finds nothing to undo
            assert [each.to_json_str() for each in (await at.cards()).values()] == [
                card.to_json_str()
            ]
            assert await at.all_served(card)

    run(scenario())


def test_the_same_once_more_touches_nothing(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            first = await at.register(model)
            at.discovery.broken = {"register", "deregister"}
            assert await at.register(model) == first

    run(scenario())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model_type": ModelType.Chat}, "group"),
    ({"kv_cache_block_size": 64}, "mdcsum"),
    ({"model_aliases": ["other"]}, "mdcsum"),
]


@pytest.mark.parametrize(("change", "what"), REFUSED)
def test_any_other_change_is_refused_saying_what_differs(
    model: Path, change: dict[str, Any], what: str
) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            first = await at.register(model)
            with pytest.raises(ConflictError, match=rf"another card \({what} ") as caught:
                await at.register(model, **change)
            assert "unregister it first" in caught.value.hint
            assert await at.all_served(first.card)

    run(scenario())


def test_other_files_are_refused_even_where_the_digest_does_not_cover_them(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            first = await at.register(model, self_host_metadata=False)
            (model / "LICENSE").write_text("changed")
            with pytest.raises(ConflictError, match=r"another card \(identity "):
                await at.register(model, self_host_metadata=False)
            (card,) = (await at.cards()).values()
            assert card.to_json_str() == first.card.to_json_str()

    run(scenario())


def test_two_loras_of_one_slug_are_told_apart(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            first = await at.register("adapter", None, lora_name="a/b", base_model_path=model)
            with pytest.raises(ConflictError, match=r"another card \(name a/b, now a\.b\)"):
                await at.register("adapter", None, lora_name="a.b", base_model_path=model)
            assert await at.all_served(first.card)

    run(scenario())


def test_a_lora_shares_the_copies_of_its_base(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            base = (await at.register(model)).card
            held = copies()
            loras = [
                await at.register("adapter", None, lora_name=f"lora-{n}", base_model_path=model)
                for n in range(3)
            ]
            assert copies() == held
            await unregister_model(at.endpoint)
            for lora in loras:
                assert await at.all_served(lora.card)
            assert (await at.get(locations(base)[0]))[0] == 404
            for number in range(3):
                await unregister_model(at.endpoint, f"lora-{number}")
            await settle(held - len(locations(base)))

    run(scenario())


def test_the_end_of_a_runtime_closes_its_copies_even_if_the_registry_fails(model: Path) -> None:
    async def scenario() -> None:
        await asyncio.to_thread(int)
        before = copies()
        async with publishing_worker() as at:
            await at.register(model)
            at.discovery.broken = {"deregister"}
        await settle(before)

    run(scenario())


@pytest.mark.parametrize("renews", [False, True])
def test_a_registration_that_hangs_does_not_keep_a_runtime_from_shutting_down(
    model: Path, renews: bool
) -> None:
    async def scenario() -> None:
        await asyncio.to_thread(int)
        before = copies()
        async with publishing_worker() as at:
            if renews:
                await at.register(model)
            at.discovery.hanging.set()
            task = asyncio.create_task(at.register(model, user_data={"x": 1}))
            await at.staged()
            await at.runtime.close()
            with pytest.raises(DiscoveryError):
                await task
            assert at.runtime.metadata.is_empty()
            at.discovery.let_go()
        await settle(before)

    run(scenario())


def test_registering_and_withdrawing_at_once_end_in_one_of_the_two(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            for _ in range(10):
                await at.register(model)
                results = await asyncio.gather(
                    at.register(model, user_data={"x": 1}),
                    unregister_model(at.endpoint),
                    at.register(model),
                    return_exceptions=True,
                )
                assert all(isinstance(each, Publication | MusterError | None) for each in results)
                cards = await at.cards()
                if cards:
                    assert await at.all_served(next(iter(cards.values())))
                    await unregister_model(at.endpoint)
                assert at.runtime.metadata.is_empty(), results

    run(scenario())


def test_another_directory_with_other_files_is_refused_and_the_first_stays(
    model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_tiny_model(other, context_length=99)

    async def scenario() -> None:
        async with publishing_worker() as at:
            first = (await at.register(model)).card
            with pytest.raises(ConflictError):
                await at.register(other)
            assert await at.all_served(first)
            assert msgspec.json.decode((await at.get(locations(first)[0]))[1])

    run(scenario())
