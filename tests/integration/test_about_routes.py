"""What a frontend says of itself and its models: the document, the page, the version, the list."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from anthropic import AsyncAnthropic

from muster import __version__
from muster.config.settings import GuardSettings
from muster.frontend.guard.access import is_admin_path
from muster.frontend.model_table import ModelStatus
from muster.frontend.openai.models import readiness
from muster.frontend.openapi.operations import OPERATIONS
from muster.frontend.report import FleetReport, ModelReport, ReplicaReport
from muster.frontend.server import Frontend
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel
from muster.testing.tiny_model import write_tiny_model

Get = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@asynccontextmanager
async def getting(*models: ScriptedModel, **options: Any) -> AsyncIterator[tuple[Get, Frontend]]:
    async with running_frontend(*models, **options) as frontend, aiohttp.ClientSession() as session:

        async def get(path: str, method: str = "GET", **headers: str) -> tuple[int, Any]:
            url = f"http://127.0.0.1:{frontend.port}{path}"
            async with session.request(method, url, headers=headers) as response:
                if response.content_type == "application/json":
                    return response.status, await response.json()
                return response.status, await response.text()

        yield get, frontend


def test_the_document_lists_every_route_that_answers_and_every_status(directory: Path) -> None:
    async def test() -> None:
        async with getting(ScriptedModel(directory)) as (get, frontend):
            status, document = await get("/openapi.json")
            assert status == 200
            assert document["openapi"].startswith("3.1")
            registered = set(frontend._routes.entries())
            assert registered <= set(OPERATIONS), "describe new routes in openapi/operations.py"
            for path, ways in document["paths"].items():
                if path in ("/v1/muster/live", "/dashboard/"):
                    continue  # the one goes on for ever, the other leads elsewhere
                for method, way in ways.items():
                    place = re.sub(r"\{\w+\}", "tiny", path)
                    answered, _ = await get(place, method.upper())
                    assert str(answered) in way["responses"], (method, path, answered)
                    assert answered != 404 or "{" in path
                answered, _ = await get(re.sub(r"\{\w+\}", "tiny", path), "DELETE")
                assert answered == 405

    run(test())


@pytest.mark.parametrize(
    "guard", [GuardSettings(disable_admin=True), GuardSettings(admin_port=0)], ids=["off", "apart"]
)
def test_the_document_has_no_admin_routes_that_its_port_does_not_answer(
    guard: GuardSettings,
) -> None:
    async def test() -> None:
        async with (
            running_frontend(guard=guard) as frontend,
            aiohttp.ClientSession(f"http://127.0.0.1:{frontend.port}") as session,
        ):
            async with session.get("/openapi.json") as reply:
                paths = (await reply.json())["paths"]
            assert "/v1/chat/completions" in paths
            assert [path for path in paths if is_admin_path(path)] == []
            async with session.get("/busy_threshold") as reply:
                assert reply.status == 404

    run(test())


def test_the_page_asks_for_nothing_but_the_document(directory: Path) -> None:
    async def test() -> None:
        async with getting() as (get, _):
            for path in ("/docs", "/docs/"):
                status, page = await get(path)
                assert status == 200
                assert page.startswith("<!doctype html>")
                assert re.findall(r"""(?:src|href|fetch\()\s*=?\s*["']([^"']+)""", page) == [
                    "/openapi.json",
                    "/openapi.json",
                ]

    run(test())


def test_the_version_is_said() -> None:
    async def test() -> None:
        async with getting() as (get, _):
            assert await get("/version") == (200, {"version": __version__})

    run(test())


def test_an_adapter_names_its_base_and_an_alias_stays_itself(directory: Path) -> None:
    async def test() -> None:
        base = ScriptedModel(directory, "org/base", aliases=("short",))
        base.served = dataclasses.replace(base.served, endpoint="ns/a/b")
        adapter = ScriptedModel(directory, "org/adapter")
        adapter.served = dataclasses.replace(adapter.served, endpoint="ns/a/b", lora=True)
        orphan = ScriptedModel(directory, "orphan")
        orphan.served = dataclasses.replace(orphan.served, endpoint="ns/c/d", lora=True)
        async with getting(base, adapter, orphan) as (get, _):
            _, listed = await get("/v1/models")
            parents = {entry["id"]: entry.get("parent") for entry in listed["data"]}
            assert parents == {
                "org/base": None,
                "short": None,
                "org/adapter": "org/base",
                "orphan": None,
            }
            created = {entry["created"] for entry in listed["data"]}
            assert created == {base.served.created}
            for name in ("org/adapter", "org%2Fadapter"):
                status, entry = await get(f"/v1/models/{name}")
                assert (status, entry["parent"]) == (200, "org/base")
                assert entry["context_window"] == 2048

    run(test())


def test_anthropics_client_lists_models(directory: Path) -> None:
    async def test() -> None:
        async with (
            running_frontend(ScriptedModel(directory, "org/tiny")) as frontend,
            AsyncAnthropic(
                base_url=f"http://127.0.0.1:{frontend.port}", api_key="none", max_retries=0
            ) as client,
        ):
            page = await client.models.list()
            assert [(model.id, model.type) for model in page.data] == [("org/tiny", "model")]
            assert page.data[0].created_at.timestamp() == 1_700_000_000
            assert (await client.models.retrieve("org/tiny")).display_name == "org/tiny"

    run(test())


def test_a_model_is_ready_not_ready_or_unknown(directory: Path) -> None:
    async def test() -> None:
        fetching = ModelStatus(model="slow", state="fetching")
        named = ScriptedModel(directory, "odd/ready")
        async with getting(ScriptedModel(directory), named, unserved=[fetching]) as (get, _):
            assert await get("/v1/models/tiny/ready") == (
                200,
                {"model": "tiny", "ready": True, "namespaces": {}},
            )
            status, slow = await get("/v1/models/slow/ready")
            assert (status, slow["ready"]) == (503, False)
            status, missing = await get("/v1/models/none/ready")
            assert (status, missing["error"]["code"]) == (404, "model_not_found")
            status, odd = await get("/v1/models/odd/ready")
            assert (status, odd["id"]) == (200, "odd/ready")
            assert (await get("/v1/models/odd/ready/ready"))[1]["ready"] is True

    run(test())


def test_readiness_counts_the_workers_of_each_namespace() -> None:
    def report(namespace: str, *states: str) -> ModelReport:
        replicas = tuple(ReplicaReport(key=str(n), state=state) for n, state in enumerate(states))
        worker_set = f'["{namespace}","c","e","chat","aggregated"]'
        return ModelReport(model="m", state="serving", worker_set=worker_set, replicas=replicas)

    fleet = FleetReport(
        status="healthy",
        models=(
            report("one", "serving", "serving", "refused"),
            report("two", "fetching"),
            ModelReport(model="m", state="refused"),
        ),
    )
    found = readiness("m", list(fleet.models), served=True)
    assert found.ready
    one, two = found.namespaces["one"], found.namespaces["two"]
    assert (one.ready, one.present, one.worker_types["aggregated"].workers) == (
        True,
        ["aggregated"],
        2,
    )
    assert (two.ready, two.present, two.worker_types["aggregated"].workers) == (False, [], 0)
