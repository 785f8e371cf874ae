"""What is raised at one end is known at the other: with Dynamo 1.6.1 at either, and in the middle."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from muster import errors
from muster.config.settings import Settings
from muster.errors.error_class import ErrorClass
from muster.runtime import Client, DistributedRuntime
from muster.testing.api import Api
from muster.testing.loops import run
from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until
from muster.wire.error_table import KINDS
from muster.wire.errors import WireError

pytestmark = [pytest.mark.peer, pytest.mark.timeout(150)]

RAISES = r"""
import asyncio, builtins, json

class Custom(Exception): pass
class CustomValue(ValueError): pass
class CustomInvalid(E.InvalidArgument): pass
class CustomBase(BaseException): pass
class NoText(Exception):
    def __str__(self): raise RuntimeError("no text")

MADE = {
    "Custom": lambda: Custom("boom"),
    "CustomValue": lambda: CustomValue("boom"),
    "CustomInvalid": lambda: CustomInvalid("boom"),
    "CustomBase": lambda: CustomBase("boom"),
    "NoText": lambda: NoText("boom"),
    "two arguments": lambda: Custom(1, "b"),
    "no argument": lambda: RuntimeError(),
    "a number": lambda: RuntimeError(5),
    "a dict": lambda: ValueError({"a": 1}),
    "Dynamo's without argument": lambda: E.InvalidArgument(),
    "Dynamo's with a number": lambda: E.InvalidArgument(5),
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    "JSONDecodeError": lambda: json.JSONDecodeError("bad", "x", 0),
    "lone surrogate": lambda: ValueError("a\ud800b"),
    "long": lambda: ValueError("é" * 5000),
    "long for the client": lambda: E.InvalidArgument("é" * 5000),
    "refused": lambda: ConnectionRefusedError(111, "refused"),
    "IncompleteReadError": lambda: asyncio.IncompleteReadError(b"x", 3),
    "asyncio.TimeoutError": lambda: asyncio.TimeoutError("boom"),
    "asyncio.CancelledError": lambda: asyncio.CancelledError("boom"),
}

GIVEN = {"an object": object(), "a lone surrogate": "a\ud800b", "an object within": [{"a": object()}]}

async def handler(request, context):
    name = request["raise"]
    if not request.get("first"):
        yield 0
    if name in GIVEN:
        yield GIVEN[name]
    if name == "a cause":
        try:
            raise E.InvalidArgument("inner")
        except Exception as error:
            raise RuntimeError("outer") from error
    if name == "what it awaits is cancelled":
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task
    if name in MADE:
        raise MADE[name]()
    if name.startswith("HTTP "):
        raise E.HttpError(int(name.removeprefix("HTTP ")), "boom")
    raise (getattr(E, name, None) or getattr(builtins, name))("boom")
"""

NAMES = [
    *("Unknown", "InvalidArgument", "CannotConnect", "Disconnected", "ConnectionTimeout"),
    *("Cancelled", "EngineShutdown", "StreamIncomplete", "WorkerUnavailable", "DynamoException"),
    *("ValueError", "TypeError", "KeyError", "IndexError", "AttributeError", "AssertionError"),
    *("RuntimeError", "NotImplementedError", "RecursionError", "MemoryError", "OSError"),
    *("TimeoutError", "ConnectionError", "ConnectionResetError", "BrokenPipeError"),
    *("FileNotFoundError", "PermissionError", "StopIteration", "StopAsyncIteration"),
    *("ZeroDivisionError", "EOFError", "Custom", "CustomValue", "CustomInvalid", "NoText"),
    *("two arguments",),
    *("no argument", "a number", "a dict", "Dynamo's without argument"),
    *("Dynamo's with a number", "UnicodeDecodeError", "JSONDecodeError", "lone surrogate"),
    *("long", "long for the client", "refused", "IncompleteReadError", "asyncio.TimeoutError"),
    *("asyncio.CancelledError", "a cause", "what it awaits is cancelled"),
    *(f"HTTP {status}" for status in (0, 200, 302, 400, 401, 402, 403, 404, 405, 408, 409, 410)),
    *(f"HTTP {status}" for status in (413, 415, 418, 422, 429, 431, 451, 499, 500, 501, 502)),
    *(f"HTTP {status}" for status in (503, 504, 505, 529, 599)),
]
NO_EXCEPTIONS = ["CustomBase", "GeneratorExit"]

DYNAMO_WORKER = f"""
import asyncio, uvloop
import dynamo.llm.exceptions as E
from dynamo.runtime import dynamo_worker
{RAISES}
@dynamo_worker()
async def main(runtime):
    await runtime.endpoint("interop.dynamo.generate").serve_endpoint(handler)
uvloop.run(main())
"""

MUSTER_WORKER = f"""
import asyncio, uvloop
import muster.errors as E
from muster.runtime import DistributedRuntime
{RAISES}
async def main():
    async with DistributedRuntime() as runtime:
        await runtime.endpoint("interop.muster.generate").serve_endpoint(handler)
uvloop.run(main())
"""

MUSTER_MIDDLE = """
import asyncio, uvloop
from muster.runtime import DistributedRuntime

async def main():
    async with DistributedRuntime() as runtime:
        client = await runtime.endpoint("interop.dynamo.generate").client()

        async def handler(request, context):
            (instance,) = await client.wait_for_instances()
            async with asyncio.TaskGroup():
                async for item in await client.direct(request, instance, context=context):
                    yield item.data()

        await runtime.endpoint("interop.middle.generate").serve_endpoint(handler)
uvloop.run(main())
"""

Scenario = Callable[[Callable[[str], Awaitable[Client]]], Awaitable[None]]


def with_clients(site: Site, scenario: Scenario) -> None:
    """Run ``scenario`` with a function that gives a client of a component's endpoint, once there."""
    environ = {"DYN_FILE_KV": str(site.registry), "DYN_TCP_RESPONSE_STREAM_HOST": "127.0.0.1"}
    settings = Settings.load(environ=environ)

    async def main() -> None:
        async with DistributedRuntime(settings=settings, handle_signals=False) as runtime:

            async def client_of(component: str) -> Client:
                client = await runtime.endpoint(f"interop.{component}.generate").client()
                await client.wait_for_instances(timeout=40)
                return client

            await scenario(client_of)

    run(main(), timeout_s=120)


async def failure_of(client: Client, request: Any) -> WireError:
    """What the worker reports instead of an end."""
    (instance_id,) = client.instance_ids()
    with pytest.raises(errors.MusterError) as caught:
        async for _ in await client.direct(request, instance_id):
            pass
    failure = caught.value.failure
    assert isinstance(failure, WireError), repr(caught.value)
    return failure


def test_what_a_handler_raises_travels_as_from_a_dynamo_worker(site: Site) -> None:
    site.dynamo_script(DYNAMO_WORKER, role="dynamo-worker")
    site.script(MUSTER_WORKER, role="worker")

    async def scenario(client_of: Callable[[str], Awaitable[Client]]) -> None:
        dynamo, ours = await client_of("dynamo"), await client_of("muster")
        for name in NAMES + NO_EXCEPTIONS:
            for first in (False, True):
                request = {"raise": name, "first": first}
                assert await failure_of(ours, request) == await failure_of(dynamo, request), name

    with_clients(site, scenario)


def test_what_a_handler_gives_and_cannot_be_sent_travels_as_from_a_dynamo_worker(
    site: Site,
) -> None:
    site.dynamo_script(DYNAMO_WORKER, role="dynamo-worker")
    site.script(MUSTER_WORKER, role="worker")

    async def scenario(client_of: Callable[[str], Awaitable[Client]]) -> None:
        dynamo, ours = await client_of("dynamo"), await client_of("muster")
        for name in ("an object", "a lone surrogate", "an object within"):
            told = (
                await failure_of(ours, {"raise": name}),
                await failure_of(dynamo, {"raise": name}),
            )
            first, second = ((each.error_type, each.class_, each.reason) for each in told)
            assert first == second == ("Unknown", "Internal", "runtime.unclassified"), name

    with_clients(site, scenario)


def test_a_failure_passes_a_muster_process_unchanged(site: Site) -> None:
    site.dynamo_script(DYNAMO_WORKER, role="dynamo-worker")
    site.script(MUSTER_MIDDLE, role="middle")

    async def scenario(client_of: Callable[[str], Awaitable[Client]]) -> None:
        dynamo, middle = await client_of("dynamo"), await client_of("middle")
        for name in NAMES + NO_EXCEPTIONS:
            request = {"raise": name}
            assert await failure_of(middle, request) == await failure_of(dynamo, request), name

    with_clients(site, scenario)


TELLS = """
import asyncio, uvloop
from muster.runtime import DistributedRuntime
from muster.wire.errors import WireError, exception_from
import msgspec

async def handler(request, context):
    yield 0
    raise exception_from(msgspec.convert(request, WireError))

async def main():
    async with DistributedRuntime() as runtime:
        await runtime.endpoint("interop.muster.generate").serve_endpoint(handler)
uvloop.run(main())
"""

HEARS = """
import asyncio, json, sys, uvloop
from dynamo.runtime import dynamo_worker

@dynamo_worker()
async def main(runtime):
    client = await runtime.endpoint("interop.muster.generate").client()
    (instance,) = await client.wait_for_instances()
    heard = []
    for request in json.loads(REQUESTS):
        try:
            async for item in await client.direct(request, instance):
                pass
            heard.append(None)
        except Exception as error:
            heard.append([type(error).__name__, str(error)])
    print("HEARD" + json.dumps(heard), flush=True)
    runtime.shutdown()
uvloop.run(main())
"""


def test_a_dynamo_client_hears_the_class_and_text_of_what_we_tell(site: Site) -> None:
    public = {"type": "message", "message": "for you"}
    told = [
        WireError(error_type=error_type, message="why", diagnostic="why", public=shown)
        for kind in KINDS
        for shown in (None, public)
        for plain in (kind.removeprefix("Backend."),)
        for error_type in (plain if plain == kind else {"Backend": plain},)
    ]
    expected = []
    for wire in told:
        settled = wire.settled()
        if settled.class_ == "InvalidRequest" and wire.public is not None:
            expected.append(["InvalidArgument", "for you"])
        else:
            expected.append(["ValueError", f"{settled.class_}: why"])
    site.script(TELLS, role="worker")
    wait_until(lambda: site.records("v1/instances"), "endpoint registered")
    requests = msgspec.json.encode(told).decode()
    client = site.dynamo_script(HEARS.replace("REQUESTS", repr(requests)), role="client")
    client.wait(60)
    (line,) = [line for line in client.text().splitlines() if line.startswith("HEARD")]
    assert json.loads(line.removeprefix("HEARD")) == expected


FAILING_MODEL = """
import uvloop
from muster import ModelInput, ModelType, WorkerType, register_model
from muster.errors.error_class import ErrorClass
from muster.runtime import DistributedRuntime
from muster.wire.errors import WireError, exception_from

async def handler(request, context):
    which = list(ErrorClass)[request["stop_conditions"]["max_tokens"] - 1]
    shown = {"type": "message", "message": "for you"}
    raise exception_from(WireError(class_=str(which), message="why", public=shown))
    yield

async def main():
    async with DistributedRuntime() as runtime:
        endpoint = runtime.endpoint("interop.muster.generate")
        await register_model(
            ModelInput.Tokens, ModelType.Chat, endpoint, MODEL, "tiny",
            worker_type=WorkerType.Aggregated,
        )
        await endpoint.serve_endpoint(handler)
uvloop.run(main())
"""


def test_both_frontends_answer_a_class_with_the_same_status(site: Site, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    script = FAILING_MODEL.replace(" MODEL,", f" {str(write_tiny_model(model))!r},")
    site.script(script, role="worker", DYN_SYSTEM_PORT="0")
    ours, theirs = site.frontend(), site.dynamo_frontend()
    ours.wait_for_model("tiny")
    theirs.wait_for_model("tiny")

    # Last what makes a frontend let the only worker alone for a while.
    last = [ErrorClass.DEADLINE_EXCEEDED, ErrorClass.UNAVAILABLE]
    order = [each for each in ErrorClass if each not in last] + last

    def statuses(api: Api) -> dict[str, int]:
        found = {}
        for error_class in order:
            with pytest.raises(urllib.error.HTTPError) as caught:
                api.chat("tiny", max_tokens=[*ErrorClass].index(error_class) + 1)
            found[str(error_class)] = caught.value.code
            caught.value.close()
        return found

    expected = {str(error_class): error_class.status for error_class in ErrorClass}
    assert statuses(theirs) == expected
    assert statuses(ours) == expected


def test_the_scripts_are_what_they_look_like() -> None:
    for script in (DYNAMO_WORKER, MUSTER_WORKER, MUSTER_MIDDLE, TELLS, HEARS, FAILING_MODEL):
        compile(script, "script", "exec")
