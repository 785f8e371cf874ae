"""Taints of a registered model: rewritten in place, the files left as they are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from muster.errors import DiscoveryError, InvalidArgument, NotRegisteredError
from muster.model.publish.register import unregister_model
from muster.model.publish.taints import update_model_taints
from muster.model.runtime_config import ModelRuntimeConfig
from muster.testing.loops import run
from muster.testing.publishing import PublishingWorker, publishing_worker


async def taints_of(at: PublishingWorker) -> tuple[str, ...]:
    ((_, card),) = (await at.cards()).items()
    return card.runtime_config.taints


def test_taints_are_replaced_and_everything_else_stays(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            await at.register(model)
            ((key, before),) = (await at.cards()).items()
            await update_model_taints(at.endpoint, {"spot", "gpu/h100", ""})
            ((same, after),) = (await at.cards()).items()
            assert same == key
            assert after.runtime_config.taints == ("", "gpu/h100", "spot")
            assert after.mdcsum() == before.mdcsum()
            assert [*after.iter_metadata_files()] == [*before.iter_metadata_files()]
            assert await at.all_served(after)
            await update_model_taints(at.endpoint, set())
            assert (await at.cards())[key].to_json_str() == before.to_json_str()

    run(scenario())


def test_taints_of_the_topology_stay(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            config = ModelRuntimeConfig(taints=("dynamo.topology/rack=7", "old"))
            await at.register(model, runtime_config=config)
            await update_model_taints(at.endpoint, {"new"})
            assert await taints_of(at) == ("dynamo.topology/rack=7", "new")

    run(scenario())


@pytest.mark.parametrize(
    ("taints", "complaint"),
    [
        ({"a", "dynamo.topology/x"}, "taint 'dynamo.topology/x' uses reserved prefix"),
        ("text", "taints are a set of texts"),
        ([1], "a taint is a text"),
    ],
)
def test_taints_that_cannot_be_are_refused(model: Path, taints: Any, complaint: str) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            await at.register(model)
            with pytest.raises(InvalidArgument, match=complaint):
                await update_model_taints(at.endpoint, taints)
            assert await taints_of(at) == ()

    run(scenario())


def test_what_is_not_registered_here_has_no_taints(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            with pytest.raises(NotRegisteredError, match="no model is registered"):
                await update_model_taints(at.endpoint, {"a"})
            await at.register(model)
            await unregister_model(at.endpoint)
            with pytest.raises(NotRegisteredError, match="no model is registered"):
                await update_model_taints(at.endpoint, {"a"})

    run(scenario())


def test_a_registry_that_fails_leaves_the_taints_as_they_were(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            await at.register(model)
            await update_model_taints(at.endpoint, {"before"})
            at.discovery.broken.add("register")
            with pytest.raises(DiscoveryError):
                await update_model_taints(at.endpoint, {"after"})
            at.discovery.broken.clear()
            assert await taints_of(at) == ("before",)
            await update_model_taints(at.endpoint, {"after"})
            assert await taints_of(at) == ("after",)

    run(scenario())


def test_an_update_that_is_called_off_leaves_the_taints_as_they_were(model: Path) -> None:
    async def scenario() -> None:
        async with publishing_worker() as at:
            await at.register(model)
            await update_model_taints(at.endpoint, {"before"})
            at.discovery.hanging.set()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await update_model_taints(at.endpoint, {"after"})
            at.discovery.let_go()
            await update_model_taints(at.endpoint, {"before"})  # waits for the late write
            await unregister_model(at.endpoint)
            await at.register(model)
            assert await taints_of(at) == ()

    run(scenario())
