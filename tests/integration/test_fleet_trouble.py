"""A frontend's fleet when things are odd or broken around one model: the others never notice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.discovery.records import INSTANCES, Instance, Transport
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.fetch.replica import Replica
from muster.model.fetch.resolved import FetchProgress, ResolvedCard
from muster.model.model_type import ModelInput, WorkerType
from muster.model.publish.register import register_model, unregister_model
from muster.runtime import Context
from muster.testing.fleet import SURFACES, frontend, request_count, serve, worker
from muster.testing.fragile import FragileDiscovery
from muster.testing.loops import run
from muster.testing.tiny_model import token_ids, write_tiny_model

HELLO = {"messages": [{"role": "user", "content": "hello"}], "model": "tiny"}


@pytest.fixture
def loud_model(tmp_path: Path) -> Path:
    """The tiny model with another chat template and context length."""
    directory = tmp_path / "loud"
    directory.mkdir()
    write_tiny_model(directory, context_length=1024)
    template = "LOUD {{ messages[0].content }}"
    (directory / "chat_template.jinja").write_text(template)
    return directory


class Recorder:
    """An engine that keeps the prompts it gets."""

    def __init__(self) -> None:
        self.prompts: list[list[int]] = []

    async def generate(self, request: Any, context: Context) -> AsyncIterator[dict[str, Any]]:
        """Say ``ok``."""
        self.prompts.append(request["token_ids"])
        yield {"token_ids": token_ids("ok"), "index": 0, "finish_reason": "stop"}


def test_each_card_of_a_name_prepares_the_requests_of_its_own_workers(
    model: Path, loud_model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            frontend(registry, tmp_path) as site,
            worker(registry) as old,
            worker(registry) as new,
        ):
            plain, loud = Recorder(), Recorder()
            await serve(old, model, endpoint="v1.backend.generate", engine=plain)
            await site.listed("tiny")
            await serve(new, loud_model, endpoint="v2.backend.generate", engine=loud)
            await site.until(lambda: len(site.fleet.groups()) == 2)
            await site.until(lambda: len(site.fleet.table.instances()) == 2)
            for _ in range(6):
                status, reply = await site.post("/v1/chat/completions", HELLO)
                assert (status, reply["choices"][0]["message"]["content"]) == (200, "ok")
            assert [len(plain.prompts), len(loud.prompts)] == [3, 3]
            assert all(prompt == token_ids("LOUD hello") for prompt in loud.prompts)
            assert not any(prompt == token_ids("LOUD hello") for prompt in plain.prompts)
            assert (await site.get("/v1/models"))[1]["data"][0]["id"] == "tiny"
            await unregister_model(new.endpoint("v2.backend.generate"))
            await site.until(lambda: len(site.fleet.groups()) == 1)
            assert site.fleet.table.get("tiny").context_length == 2048
            await site.post("/v1/chat/completions", HELLO)
            assert [len(plain.prompts), len(loud.prompts)] == [4, 3]

    run(scenario())


def test_when_a_namespaces_only_worker_is_dead_another_namespace_answers(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            frontend(registry, tmp_path) as site,
            worker(registry) as dead,
            worker(registry) as alive,
        ):
            endpoint = dead.endpoint("blue.backend.generate")
            gone = Instance(
                namespace="blue",
                component="backend",
                endpoint="generate",
                instance_id=dead.instance_id,
                transport=Transport("tcp", "127.0.0.1:1/gone"),
            )
            await dead.discovery.register(INSTANCES, gone.key, gone.to_json())
            await register_model(
                ModelInput.Tokens,
                SURFACES,
                endpoint,
                model,
                "tiny",
                worker_type=WorkerType.Aggregated,
            )
            await serve(alive, model, endpoint="green.backend.generate")
            await site.until(lambda: len(site.fleet.groups()) == 2)
            await site.until(lambda: len(site.fleet.table.instances()) == 2)
            for _ in range(4):
                assert await site.echo("here") == "here"
            assert request_count(alive) == 4

    run(scenario())


def test_a_name_that_is_an_alias_waits_with_its_reason_until_it_is_free(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            frontend(registry, tmp_path) as site,
            worker(registry) as first,
            worker(registry) as second,
        ):
            await serve(first, model, "tiny", "a.backend.generate", model_aliases=["wee"])
            await site.listed("tiny")
            await serve(second, model, "wee", "b.backend.generate")
            await site.until(lambda: any(s.state == "retrying" for s in site.unserved))
            (status,) = site.unserved
            assert (status.model, status.reason) == ("wee", "conflict")
            assert "'wee' is an alias of the model 'tiny'" in status.message
            assert (await site.get("/health"))[1]["status"] == "degraded"
            await unregister_model(first.endpoint("a.backend.generate"))
            await site.listed("wee")
            assert await site.echo("mine now", "wee") == "mine now"

    run(scenario())


def test_a_registry_that_cannot_be_read_is_said_and_read_when_it_can(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        discovery = FragileDiscovery(MemoryDiscovery(registry))
        discovery.broken = {"watch"}
        async with worker(registry) as runtime:
            await serve(runtime, model)
            async with frontend(registry, tmp_path, discovery=discovery) as site:
                await site.until(lambda: "told to fail" in site.fleet.registry.trouble())
                code, health = await site.get("/health")
                assert (code, health["status"]) == (503, "unavailable")
                assert "the registry cannot be read" in health["message"]
                assert "watch of v1/mdc was told to fail" in health["message"]
                discovery.broken = set()
                await site.listed("tiny")
                assert (await site.get("/health"))[1]["status"] == "healthy"

    run(scenario())


class OddFetcher(CardFetcher):
    """Breaks on one model in a way nobody has thought of."""

    async def resolve(
        self,
        replicas: Sequence[Replica],
        on_progress: Callable[[FetchProgress], None] | None = None,
    ) -> ResolvedCard:
        if replicas[0].card.display_name == "odd":
            raise ZeroDivisionError("a mistake of ours")
        return await super().resolve(replicas, on_progress)


def test_a_mistake_of_ours_with_one_model_is_said_and_the_others_are_served(
    model: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with (
            frontend(registry, tmp_path, make_fetcher=OddFetcher) as site,
            worker(registry) as runtime,
        ):
            await serve(runtime, model, "odd", "ns.odd.generate")
            await site.until(lambda: any(s.state == "retrying" for s in site.unserved))
            (status,) = site.unserved
            assert (status.model, status.reason) == ("odd", "internal")
            assert "ZeroDivisionError: a mistake of ours" in status.message
            await serve(runtime, model)
            await site.listed("tiny")
            assert await site.echo("fine") == "fine"

    run(scenario())


def test_a_chat_reaches_the_engine_through_the_models_template(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            engine = Recorder()
            await serve(runtime, model, engine=engine)
            await site.listed("tiny")
            status, reply = await site.post("/v1/chat/completions", HELLO)
            assert status == 200
            message = reply["choices"][0]["message"]
            assert (message["role"], message["content"]) == ("assistant", "ok")
            assert reply["usage"]["prompt_tokens"] == len(engine.prompts[0])
            text = bytes(token for token in engine.prompts[0] if token < 256).decode()
            assert text == "user\nhello\nassistant\n"

    run(scenario())


def test_an_instance_that_moves_is_followed(model: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, model)
            await site.listed("tiny")
            (value,) = (await runtime.discovery.list(INSTANCES)).values()
            instance = Instance.from_json(value)
            moved = msgspec.structs.replace(instance, transport=Transport("tcp", "127.0.0.1:1/x"))
            await runtime.discovery.register(INSTANCES, instance.key, moved.to_json())
            await site.until(lambda: site.fleet.table.instances() == [moved])
            status, body = await site.post("/v1/completions", {"model": "tiny", "prompt": "x"})
            assert status == 503
            assert "127.0.0.1:1" in body["error"]["message"]
            await runtime.discovery.register(INSTANCES, instance.key, value)
            await site.until(lambda: site.fleet.table.instances() == [instance])
            assert await site.echo("back") == "back"

    run(scenario())
