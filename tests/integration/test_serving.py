"""Ways to serve an endpoint: plain, built, decorated, one answer a request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muster.discovery.memory import MemoryDiscovery, MemoryRegistry
from muster.errors import CardError, InvalidArgument, MusterError, StreamIncomplete, Unknown
from muster.model.publish.fetch_model import fetch_model
from muster.runtime import (
    Context,
    DistributedRuntime,
    UnaryClient,
    dynamo_endpoint,
    serve_unary_endpoint,
)
from muster.runtime.serving.handler import with_context
from muster.testing.fragile import FragileDiscovery
from muster.testing.loops import run
from muster.testing.runtimes import loopback_settings, runtime_in


async def echo(request: Any) -> AsyncIterator[Any]:
    yield request


async def items(runtime: DistributedRuntime, request: Any) -> list[Any]:
    client = await runtime.endpoint("n.c.e").client()
    await client.wait_for_instances()
    return [item async for item in await client.generate(request, annotated=False)]


def test_c5_a_builder_says_how_an_endpoint_is_served_and_starts_it() -> None:
    async def scenario() -> None:
        async with runtime_in(MemoryRegistry()) as runtime:
            endpoint = runtime.endpoint("n.c.e")
            builder = endpoint.builder().handler(echo).graceful_shutdown(False)
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(builder.start())
                assert await items(runtime, {"a": 1}) == [{"a": 1}]
                assert not serving.done()
                await runtime.close()

    run(scenario())


def test_c8_an_endpoint_is_registered_when_its_build_returns() -> None:
    async def scenario() -> None:
        async with runtime_in(MemoryRegistry()) as runtime:
            endpoint = runtime.endpoint("n.c.e")
            service = await endpoint.builder().handler(echo).build()
            assert await endpoint.component().list_instances() == [service.instance]

    run(scenario())


def test_a_builder_without_a_handler_or_with_a_bad_label_registers_nothing() -> None:
    async def scenario() -> None:
        async with runtime_in(MemoryRegistry()) as runtime:
            endpoint = runtime.endpoint("n.c.e")
            endpoint.component().add_label("tier", "gold")
            with pytest.raises(InvalidArgument, match="n/c/e has no handler"):
                await endpoint.builder().build()
            for labels in ([("tier", "silver")], [("a", "1"), ("a", "2")], [("worker_id", "1")]):
                with pytest.raises(InvalidArgument, match="label"):
                    await endpoint.builder().handler(echo).metrics_labels(labels).start()
                with pytest.raises(InvalidArgument, match="label"):
                    await endpoint.serve_endpoint(echo, metrics_labels=labels)
            assert await endpoint.component().list_instances() == []

    run(scenario())


class Question(msgspec.Struct):
    text: str


def test_a_decorated_endpoint_gets_its_parsed_request_over_the_wire() -> None:
    @dynamo_endpoint(Question, str)
    async def handler(request: Question, context: Context) -> AsyncIterator[str]:
        yield request.text
        yield context.id()

    async def scenario() -> None:
        async with runtime_in(MemoryRegistry()) as runtime:
            await runtime.endpoint("n.c.e").builder().handler(handler).build()
            text, request_id = await items(runtime, {"text": "hi"})
            assert (text, len(request_id)) == ("hi", 36)
            assert (await items(runtime, '{"text":"ho"}'))[0] == "ho"
            with pytest.raises(InvalidArgument, match="ValueError: Invalid request: "):
                await items(runtime, {"txet": "hi"})

    run(scenario())


def test_a_unary_endpoint_gives_one_answer_a_request() -> None:
    async def answer(request: Any, *, context: Context) -> Any:
        if request == "fail":
            raise ValueError("no")
        return {"request": request, "id": context.id(), "from": context.metadata.get("from")}

    async def scenario() -> None:
        async with runtime_in(MemoryRegistry()) as runtime, asyncio.TaskGroup() as group:
            endpoint = runtime.endpoint("n.c.e")
            serving = group.create_task(serve_unary_endpoint(endpoint, answer))
            client = await endpoint.client()
            await client.wait_for_instances()
            unary = UnaryClient(client)
            context = Context("me", {"from": "here"})
            assert await unary.complete(7, context=context) == {
                "request": 7, "id": "me", "from": "here"
            }  # fmt: skip
            assert (await unary.complete(None))["request"] is None
            with pytest.raises(InvalidArgument, match="no"):
                await unary.complete("fail")
            await runtime.close()
            await serving

    run(scenario())


@pytest.mark.parametrize(
    ("count", "error", "complaint"),
    [(0, StreamIncomplete, "no response"), (2, Unknown, "multiple responses")],
)
def test_an_endpoint_that_is_not_unary_is_told(
    count: int, error: type[MusterError], complaint: str
) -> None:
    async def handler(request: Any) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def scenario() -> None:
        async with runtime_in(MemoryRegistry()) as runtime:
            endpoint = runtime.endpoint("n.c.e")
            await endpoint.builder().handler(handler).build()
            client = await endpoint.client()
            await client.wait_for_instances()
            with pytest.raises(error, match=complaint):
                await UnaryClient(client).complete(1)

    run(scenario())


def test_a_model_here_is_fetched_as_its_directory(model: Path) -> None:
    assert run(fetch_model(str(model))) == str(model)


def test_a_model_that_is_not_here_is_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CardError, match="neither a directory nor a model in the hub cache"):
        run(fetch_model("acme/none", ignore_weights=True))


def test_a_serve_that_is_cancelled_while_it_registers_leaves_nothing() -> None:
    async def scenario() -> None:
        registry = MemoryRegistry()
        fragile = FragileDiscovery(MemoryDiscovery(registry))
        fragile.hanging.set()
        runtime = DistributedRuntime(
            settings=loopback_settings(), discovery=fragile, handle_signals=False
        )
        async with runtime:
            endpoint = runtime.endpoint("n.c.e")
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(runtime.serve(endpoint.id(), with_context(echo)))
                await asyncio.sleep(0.05)
                serving.cancel()
                await asyncio.sleep(0.05)
                fragile.let_go()
            assert serving.cancelled()
            assert await runtime.discovery.list("v1/instances") == {}
            await runtime.serve(endpoint.id(), with_context(echo))
            assert len(await runtime.discovery.list("v1/instances")) == 1

    run(scenario())


def test_a_runtime_that_closes_while_it_begins_to_serve_or_call_says_so() -> None:
    async def scenario() -> None:
        for delay in range(12):
            async with runtime_in(MemoryRegistry()) as runtime:
                endpoint = runtime.endpoint("n.c.e")

                async def closing(
                    turns: int = delay, runtime: DistributedRuntime = runtime
                ) -> None:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    await runtime.close()

                results = await asyncio.gather(
                    runtime.serve(endpoint.id(), with_context(echo)),
                    endpoint.client(),
                    closing(),
                    return_exceptions=True,
                )
                assert all(
                    isinstance(each, MusterError)
                    for each in results
                    if isinstance(each, BaseException)
                ), results

    run(scenario())
