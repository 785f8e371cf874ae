"""Embeddings with the official ``openai`` client, through a frontend and real workers."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import contextlib
import json
import logging
import math
import struct
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from muster.config.settings import GuardSettings
from muster.discovery.memory import MemoryRegistry
from muster.errors import EngineShutdown
from muster.frontend.embeddings.answer import LARGE_ANSWER
from muster.llm.embedding import EmbeddingRequest, Embeddings, pack_floats
from muster.log import JsonFormatter
from muster.model.catalog.status import ModelState
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.publish.register import register_model
from muster.runtime import Context, DistributedRuntime
from muster.testing.clients import openai_client
from muster.testing.fleet import FleetSite, frontend, serve, worker
from muster.testing.loops import run
from muster.testing.process import Process
from muster.testing.site import Site
from muster.testing.tiny_model import token_ids
from muster.testing.waiting import wait_until
from muster.worker.embedding import EmbeddingHandler
from muster.worker.engines.mock_embedder import MockEmbedder, MockEmbedderSettings, mock_vector
from muster.worker.engines.timing import Timing

DIMENSIONS = 64
MOCK = MockEmbedder(MockEmbedderSettings(dimensions=DIMENSIONS, timing=Timing(speedup_ratio=0)))


async def embed_at(
    runtime: DistributedRuntime,
    path: Path,
    handler: Callable[..., Any] | None = None,
    *,
    name: str = "vectors",
    endpoint: str = "ns.embedder.generate",
    model_input: ModelInput = ModelInput.Tokens,
) -> None:
    """Serve a model that embeds."""
    at = runtime.endpoint(endpoint)
    await runtime.serve(at.id(), handler or EmbeddingHandler(MOCK).generate)
    await register_model(
        model_input, ModelType.Embedding, at, path, name, worker_type=WorkerType.Aggregated
    )


@contextlib.asynccontextmanager
async def site_with(
    tmp_path: Path, model: Path, *handlers: Callable[..., Any], **options: Any
) -> AsyncIterator[tuple[FleetSite, AsyncOpenAI]]:
    """A frontend and a worker for each handler, and a client."""
    registry = MemoryRegistry()
    async with contextlib.AsyncExitStack() as stack:
        for handler in handlers or (EmbeddingHandler(MOCK).generate,):
            runtime = await stack.enter_async_context(worker(registry))
            await embed_at(runtime, model, handler)
        site = await stack.enter_async_context(frontend(registry, tmp_path, **options))
        await site.until(lambda: _serving(site) == max(1, len(handlers)))
        client = await stack.enter_async_context(openai_client(site.server.port))
        yield site, client


def _serving(site: FleetSite) -> int:
    """How many replicas answer requests."""
    if not site.models:
        return 0
    replicas = [replica for model in site.fleet.report().models for replica in model.replicas]
    return len([each for each in replicas if each.state == ModelState.SERVING.value])


def expected(ids: list[int], dimensions: int = DIMENSIONS) -> list[float]:
    return [*mock_vector(ids, dimensions)]


async def raw(site: FleetSite, **body: Any) -> tuple[int, Any]:
    return await site.post("/v1/embeddings", {"model": "vectors", "input": "hi"} | body)


def test_the_client_reads_vectors_in_either_encoding(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        async with site_with(tmp_path, model) as (_, client):
            # By default this client asks for base64 and decodes it.
            reply = await client.embeddings.create(model="vectors", input="hi")
            assert (reply.object, reply.model) == ("list", "vectors")
            assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (2, 2)
            (entry,) = reply.data
            assert (entry.index, entry.object) == (0, "embedding")
            assert entry.embedding == expected(token_ids("hi"))
            assert math.isclose(math.hypot(*entry.embedding), 1, abs_tol=1e-6)
            floats = await client.embeddings.create(
                model="vectors", input="hi", encoding_format="float"
            )
            assert floats.data[0].embedding == entry.embedding

    run(test())


def test_all_forms_of_input_are_embedded_in_order(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        async with site_with(tmp_path, model) as (_, client):
            texts = ["one", "twenty", "3"]
            ids = [token_ids(text) for text in texts]
            by_text = await client.embeddings.create(model="vectors", input=texts)
            by_ids = await client.embeddings.create(model="vectors", input=ids)
            assert [entry.index for entry in by_text.data] == [0, 1, 2]
            assert [entry.embedding for entry in by_text.data] == [expected(each) for each in ids]
            assert by_ids.data == by_text.data
            assert by_ids.usage.prompt_tokens == 10
            single = await client.embeddings.create(model="vectors", input=ids[1])
            assert single.data[0].embedding == by_text.data[1].embedding

    run(test())


def test_fewer_dimensions_and_the_bytes_of_base64(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        async with site_with(tmp_path, model) as (site, client):
            reply = await client.embeddings.create(model="vectors", input="hi", dimensions=5)
            assert reply.data[0].embedding == expected(token_ids("hi"), 5)
            _, body = await raw(site, encoding_format="base64", dimensions=5)
            data = base64.b64decode(body["data"][0]["embedding"])
            assert [*struct.unpack("<5f", data)] == expected(token_ids("hi"), 5)
            with pytest.raises(openai.BadRequestError, match="between 1 and 64"):
                await client.embeddings.create(model="vectors", input="hi", dimensions=65)

    run(test())


def test_a_large_answer_is_whole(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        async with site_with(tmp_path, model) as (site, client):
            texts = [f"number {n}" for n in range(LARGE_ANSWER // DIMENSIONS + 1)]
            whole = await client.embeddings.create(
                model="vectors", input=texts, encoding_format="float"
            )
            assert [each.embedding for each in whole.data] == [
                expected(token_ids(text)) for text in texts
            ]
            _, body = await raw(site, input=texts, encoding_format="base64")
            vectors = [base64.b64decode(each["embedding"]) for each in body["data"]]
            assert [*struct.unpack("<64f", vectors[-1])] == whole.data[-1].embedding

    run(test())


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", 1]}, "input", "invalid_value"),
        ({"input": ["a"] * 2049}, "input", "invalid_value"),
        ({"input": "x" * 3000}, "input", "context_length_exceeded"),
        ({"input": [99999]}, "input", "invalid_value"),
        ({"dimensions": 0}, "dimensions", "invalid_value"),
        ({"encoding_format": "int8"}, "encoding_format", "invalid_value"),
        ({"input": {}}, "input", "invalid_value"),
        ({"input": [-1]}, "input[0]", "invalid_value"),
    ],
)
def test_bad_requests_are_refused_by_name(
    tmp_path: Path, model: Path, body: dict[str, Any], param: str, code: str
) -> None:
    async def test() -> None:
        async with site_with(tmp_path, model) as (site, _):
            status, reply = await raw(site, **body)
            assert status == 400
            assert (reply["error"]["param"], reply["error"]["code"]) == (param, code)

    run(test())


def test_a_model_that_does_not_embed_says_what_it_serves(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        registry = MemoryRegistry()
        async with worker(registry) as runtime, frontend(registry, tmp_path) as site:
            await serve(runtime, model, "tiny")
            await embed_at(runtime, model)
            await site.listed("tiny", "vectors")
            status, reply = await raw(site, model="tiny")
            assert status == 400
            assert reply["error"]["code"] == "unsupported_operation"
            assert "serves chat_completions, completions" in reply["error"]["message"]
            status, reply = await raw(site, model="nobody")
            assert (status, reply["error"]["code"]) == (404, "model_not_found")
            chat = {"model": "vectors", "messages": [{"role": "user", "content": "hi"}]}
            status, reply = await site.post("/v1/chat/completions", chat)
            assert (status, reply["error"]["code"]) == (400, "unsupported_operation")
            _, listed = await site.get("/v1/models")
            assert {entry["id"] for entry in listed["data"]} == {"tiny", "vectors"}

    run(test())


@pytest.mark.parametrize("path", ["rerank", "classify", "pooling", "images/generations", "audio"])
def test_kinds_of_requests_nobody_answers_are_a_clear_404(
    tmp_path: Path, model: Path, path: str
) -> None:
    async def test() -> None:
        async with site_with(tmp_path, model) as (site, _):
            status, reply = await site.post(f"/v1/{path}", {"model": "vectors"})
            assert (status, reply["error"]["code"]) == (404, "route_not_found")
            assert f"/v1/{path}" in reply["error"]["message"]

    run(test())


def test_requests_are_counted_and_timed(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        async with site_with(tmp_path, model) as (site, client):
            await client.embeddings.create(model="vectors", input="hi", user="bob")
            await raw(site, input="", unknown=1)
            await raw(site, model="nobody")
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{site.url}/metrics") as reply,
            ):
                families = [*text_string_to_metric_families(await reply.text())]
            samples = [sample for family in families for sample in family.samples]

            def value(name: str, **labels: str) -> float:
                found = [each for each in samples if each.name == name]
                return sum(each.value for each in found if labels.items() <= each.labels.items())

            own = {"endpoint": "embeddings", "request_type": "unary"}
            count = "dynamo_frontend_requests_total"
            assert value(count, model="vectors", status="success", **own) == 1
            assert value(count, model="vectors", error_type="validation", **own) == 1
            assert value(count, model="unknown_model", error_type="not_found", **own) == 1
            latency = "dynamo_frontend_embedding_latency_seconds_count"
            assert value(latency, model="vectors") == 1
            assert value("dynamo_frontend_output_sequence_tokens_count", model="vectors") == 0
            assert value("dynamo_frontend_input_sequence_tokens_count", model="vectors") == 0
            ignored = "muster_ignored_parameters_total"
            assert value(ignored, endpoint="embeddings", parameter="unknown") == 1

    run(test())


def test_a_request_has_one_line_in_the_log(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with site_with(tmp_path, model) as (site, client):
            with caplog.at_level(logging.INFO, "muster.frontend.request_log"):
                await client.embeddings.create(model="vectors", input=["hi", "sea"])
                await site.until(lambda: bool(caplog.records))
            (record,) = [each for each in caplog.records if each.name.endswith("request_log")]
            said = json.loads(JsonFormatter().format(record))
            assert (said["path"], said["status"]) == ("/v1/embeddings", 200)
            assert (said["model"], said["input_tokens"], said["attempts"]) == ("vectors", 5, 1)
            assert said["instance"]

    run(test())


def test_a_named_instance_gets_the_request_and_headers_travel(tmp_path: Path, model: Path) -> None:
    seen: list[tuple[str, str | None, Any]] = []

    def noting(name: str) -> Callable[..., Any]:
        async def handler(request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
            seen.append((name, context.metadata.get("kind"), request.get("agent_context")))
            async for item in EmbeddingHandler(MOCK).generate(request, context):
                yield item

        return handler

    async def test() -> None:
        handlers = (noting("a"), noting("b"))
        async with site_with(tmp_path, model, *handlers) as (_, client):
            for _ in range(4):
                headers = {"x-session-id": "s", "x-dynamo-meta-kind": "test"}
                await client.embeddings.create(model="vectors", input="x", extra_headers=headers)
            assert len({name for name, *_ in seen}) == 1  # a session stays where it is
            assert seen[0][1:] == ("test", {"session_id": "s"})
            with pytest.raises(openai.BadRequestError, match="instance id"):
                await client.embeddings.create(
                    model="vectors",
                    input="x",
                    extra_headers={"x-dynamo-worker-instance-id": "first"},
                )

    run(test())


def test_the_request_id_is_answered_and_where_the_request_went(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        async with site_with(tmp_path, model) as (_, client):
            reply = await client.embeddings.with_raw_response.create(
                model="vectors",
                input="hi",
                extra_headers={"x-request-id": "mine", "x-muster-trace": "1"},
            )
            assert reply.headers["x-request-id"] == "mine"
            (prompt,) = json.loads(reply.headers["x-muster-trace"])["prompts"]
            assert prompt["attempts"] == 1
            assert len(prompt["cohort"]) == 64

    run(test())


class Leaving:
    """An engine that goes away whenever it is asked."""

    def __init__(self) -> None:
        self.requests = 0

    async def embed(self, request: EmbeddingRequest, context: Context) -> Embeddings:
        self.requests += 1
        raise EngineShutdown("going away")


def test_a_request_whose_engine_goes_away_is_answered_by_another(
    tmp_path: Path, model: Path
) -> None:
    async def test() -> None:
        leaving = Leaving()
        handlers = (EmbeddingHandler(leaving).generate, EmbeddingHandler(MOCK).generate)
        async with site_with(tmp_path, model, *handlers) as (_, client):
            for _ in range(4):
                reply = await client.embeddings.create(model="vectors", input="hi")
                assert reply.data[0].embedding == expected(token_ids("hi"))
            assert leaving.requests

    run(test())


def test_a_request_that_nobody_takes_in_the_end_says_why(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        handlers = (EmbeddingHandler(Leaving()).generate,) * 2
        async with site_with(tmp_path, model, *handlers) as (_, client):
            with pytest.raises(openai.InternalServerError, match="going away") as caught:
                await client.embeddings.create(model="vectors", input="hi")
            assert caught.value.status_code == 503

    run(test())


class Hanging:
    """An engine that never answers."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.freed = asyncio.Event()

    async def embed(self, request: EmbeddingRequest, context: Context) -> Embeddings:
        self.asked.set()
        try:
            await context.async_killed_or_stopped()
        finally:
            self.freed.set()
        return Embeddings(vectors=[[1.0]] * len(request.inputs))


def test_a_client_that_leaves_frees_the_engine(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        engine = Hanging()
        async with site_with(tmp_path, model, EmbeddingHandler(engine).generate) as (site, _):
            asking = asyncio.ensure_future(raw(site))
            async with asyncio.timeout(10):
                await engine.asked.wait()
                asking.cancel()
                await engine.freed.wait()

    run(test())


def test_requests_for_a_busy_model_are_refused(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        engine = Hanging()
        guard = GuardSettings(active_prefill_tokens=1)
        handler = EmbeddingHandler(engine).generate
        async with site_with(tmp_path, model, handler, guard=guard) as (site, client):
            asking = asyncio.ensure_future(raw(site, input=["one", "two"]))
            async with asyncio.timeout(10):
                await engine.asked.wait()
            with pytest.raises(openai.APIStatusError, match="busy") as caught:
                await client.embeddings.create(model="vectors", input="hi")
            assert caught.value.status_code == 529
            asking.cancel()
            async with asyncio.timeout(10):
                await engine.freed.wait()

    run(test())


WORKER = """
import asyncio
from muster import ModelInput, ModelType, WorkerType, dynamo_worker, register_model
from muster.llm.embedding import Embeddings
from muster.worker.embedding import EmbeddingHandler

class Slow:
    async def embed(self, request, context):
        print("asked", flush=True)
        await asyncio.sleep(DELAY)
        return Embeddings(vectors=[[1.0, 2.0] for _ in request.inputs])

@dynamo_worker()
async def main(runtime):
    endpoint = runtime.endpoint("ns.embedder.generate")
    await register_model(
        ModelInput.Tokens, ModelType.Embedding, endpoint, MODEL, "vectors",
        worker_type=WorkerType.Aggregated,
    )
    await endpoint.serve_endpoint(EmbeddingHandler(Slow()).generate)

asyncio.run(main())
"""


def test_a_request_whose_worker_is_killed_is_answered_by_another(site: Site, model: Path) -> None:
    def start(role: str, delay_s: float) -> Process:
        code = WORKER.replace("MODEL", repr(str(model))).replace("DELAY", repr(delay_s))
        return site.script(code, role=role, DYN_SYSTEM_PORT="0")

    slow = start("slow", 60)
    frontend = site.frontend()
    frontend.wait_for_model("vectors")

    def ask() -> Any:
        request = urllib.request.Request(
            frontend.url + "/v1/embeddings",
            data=json.dumps({"model": "vectors", "input": ["a", "b"]}).encode(),
            headers={"content-type": "application/json", "x-muster-trace": "1"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply), json.loads(reply.headers["x-muster-trace"])

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        wait_until(lambda: "asked" in slow.text(), "the slow worker has the request")
        start("quick", 0)

        def both() -> bool:
            (found,) = frontend.get("/v1/muster/models")["models"]
            return [each["state"] for each in found["replicas"]] == ["serving"] * 2

        wait_until(both, "both workers serve")
        slow.kill()
        reply, trace = asking.result(timeout=60)
    assert [each["embedding"] for each in reply["data"]] == [[1.0, 2.0]] * 2
    assert trace["prompts"][0]["attempts"] == 2


async def floats(request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
    """An engine that sends numbers, a vector an item, and then does not end."""
    for _ in request["token_ids"]:
        yield {"embeddings": [[0.5, 0.25]], "prompt_tokens": 7, "total_tokens": 7}
    await context.async_killed_or_stopped()


async def odd(request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
    """An engine that gives what the first id says."""
    number = request["token_ids"][0][0]
    good = {"embeddings": [pack_floats([1.0])], "prompt_tokens": 1, "total_tokens": 1}
    if number == 1:
        yield {"token_ids": [1], "finish_reason": "stop"}
    elif number == 2:
        yield good | {"embeddings": []}
    elif number == 3:
        yield good | {"embeddings": ["AAA"]}
    elif number == 4:
        yield good | {"embeddings": good["embeddings"] * 2}  # type: ignore[operator]


def test_vectors_may_come_in_items_and_the_engines_count_counts(
    tmp_path: Path, model: Path
) -> None:
    async def test() -> None:
        async with site_with(tmp_path, model, floats) as (_, client):
            reply = await client.embeddings.create(model="vectors", input=["a", "b"])
            assert [each.embedding for each in reply.data] == [[0.5, 0.25]] * 2
            assert reply.usage.prompt_tokens == 14

    run(test())


def test_an_engines_nonsense_is_its_own_error(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        async with site_with(tmp_path, model, odd) as (site, _):
            for number in range(5):
                status, reply = await raw(site, input=[number])
                assert status >= 500, number
                assert "engine" in reply["error"]["message"], number

    run(test())


async def text_engine(request: Any, context: Context) -> AsyncGenerator[dict[str, Any], None]:
    """A worker that takes text, as Dynamo's do by default; the last vector comes first."""
    vectors = [pack_floats([float(len(text))]) for text in request["input"]]
    data = [
        {"object": "embedding", "embedding": vector, "index": index}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 11, "total_tokens": 11}
    yield {"object": "list", "data": data[::-1], "model": "whatever", "usage": usage}


def test_workers_that_take_text_embed_too(tmp_path: Path, model: Path) -> None:
    async def test() -> None:
        registry = MemoryRegistry()
        async with worker(registry) as runtime, frontend(registry, tmp_path) as site:
            await embed_at(runtime, model, text_engine, model_input=ModelInput.Text)
            await site.listed("vectors")
            async with openai_client(site.server.port) as client:
                reply = await client.embeddings.create(model="vectors", input=["abc", "x" * 5000])
                assert [each.embedding for each in reply.data] == [[3.0], [5000.0]]
                assert (reply.model, reply.usage.prompt_tokens) == ("vectors", 11)

    run(test())
