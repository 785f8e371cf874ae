"""The decorators, apart from what they do over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self

import msgspec
import pytest

from muster.runtime import Context, DistributedRuntime, dynamo_endpoint, dynamo_worker
from muster.testing.loops import run


class Model:
    """What counts of a pydantic model."""

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def model_validate(cls, value: Any) -> Self:
        if "text" not in value:
            raise ValueError("text is missing")
        return cls(value["text"])

    @classmethod
    def model_validate_json(cls, text: str) -> Self:
        return cls.model_validate(msgspec.json.decode(text))

    def model_dump(self, *, mode: str) -> dict[str, str]:
        return {"text": self.text, "mode": mode}


class Record(msgspec.Struct):
    text: str


async def items(handler: Any, *args: Any, **kwargs: Any) -> list[Any]:
    return [item async for item in handler(*args, **kwargs)]


@pytest.mark.parametrize("model", [Model, Record])
@pytest.mark.parametrize("request_", ['{"text":"hi"}', {"text": "hi"}])
def test_a_request_is_parsed_from_text_or_a_dict(model: Any, request_: Any) -> None:
    @dynamo_endpoint(model, Model)
    async def function(request: Any) -> AsyncIterator[str]:
        yield type(request).__name__ + " " + request.text

    class Engine:
        @dynamo_endpoint(model, Model)
        async def method(self, request: Any, context: Context | None = None) -> AsyncIterator[str]:
            yield f"{type(request).__name__} {request.text} {context and context.id()}"

    name = model.__name__
    assert run(items(function, request_)) == [f"{name} hi"]
    assert run(items(Engine().method, request_)) == [f"{name} hi None"]
    assert run(items(Engine().method, request_, context=Context("c"))) == [f"{name} hi c"]
    assert run(items(Engine().method, request_, Context("c"))) == [f"{name} hi c"]


@pytest.mark.parametrize("model", [Model, Record])
@pytest.mark.parametrize("request_", ["{}", "not json", {}, None, 7, [], Model("hi"), Record("hi")])
def test_a_request_that_does_not_parse_is_a_value_error_at_the_first_item(
    model: Any, request_: Any
) -> None:
    @dynamo_endpoint(model, Model)
    async def handler(request: Any) -> AsyncIterator[str]:
        yield "never"

    generator = handler(request_)
    with pytest.raises(ValueError, match=r"^Invalid request: "):
        run(items(lambda: generator))


def test_other_classes_other_counts_and_keywords_are_passed_untouched() -> None:
    @dynamo_endpoint(str, str)
    async def plain(request: Any) -> AsyncIterator[Any]:
        yield request

    @dynamo_endpoint(Model, Model)
    async def many(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        yield args, kwargs

    assert run(items(plain, {"text": "hi"})) == [{"text": "hi"}]
    assert run(items(many, 1, 2, {"text": "hi"})) == [((1, 2, {"text": "hi"}), {})]
    assert run(items(many, request={"text": "hi"})) == [((), {"request": {"text": "hi"}})]


def test_items_pass_unchanged_and_models_as_what_the_wire_can_carry() -> None:
    @dynamo_endpoint(str, Model)
    async def handler(request: Any) -> AsyncIterator[Any]:
        yield Model("hi")
        yield Record("hi")
        yield 5  # no Model: a response is not checked

    assert run(items(handler, "x")) == [{"text": "hi", "mode": "json"}, Record("hi"), 5]


def test_what_a_decorated_handler_raises_is_raised() -> None:
    @dynamo_endpoint(str, str)
    async def handler(request: Any) -> AsyncIterator[Any]:
        yield 1
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(items(handler, "x"))


@pytest.fixture
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings a worker's runtime reads in these tests."""
    monkeypatch.setenv("DYN_DISCOVERY_BACKEND", "mem")
    monkeypatch.delenv("DYN_SYSTEM_PORT", raising=False)


@pytest.mark.usefixtures("quiet_environment")
def test_a_worker_gets_a_runtime_that_is_closed_when_it_returns() -> None:
    kept: list[DistributedRuntime] = []

    @dynamo_worker()
    async def worker(runtime: DistributedRuntime, number: int, *, word: str) -> str:
        kept.append(runtime)
        return f"{number} {word} {runtime.endpoint('a.b.c')}"

    async def scenario() -> None:
        assert await worker(7, word="hi") == "7 hi a/b/c"
        await asyncio.wait_for(kept[0].wait_closed(), 1)

    run(scenario())
    assert worker.__name__ == "worker"


@pytest.mark.usefixtures("quiet_environment")
def test_a_worker_that_raises_or_is_cancelled_closes_its_runtime_too() -> None:
    kept: list[DistributedRuntime] = []

    @dynamo_worker()
    async def fails(runtime: DistributedRuntime) -> None:
        kept.append(runtime)
        raise KeyError("mine")

    @dynamo_worker()
    async def hangs(runtime: DistributedRuntime) -> None:
        kept.append(runtime)
        await asyncio.Event().wait()

    async def scenario() -> None:
        with pytest.raises(KeyError, match="mine"):
            await fails()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hangs(), 0.2)
        for runtime in kept:
            await asyncio.wait_for(runtime.wait_closed(), 1)

    run(scenario())
    assert len(kept) == 2


def test_enable_nats_is_accepted_and_deprecated() -> None:
    with pytest.warns(DeprecationWarning, match="enable_nats has no effect"):
        dynamo_worker(enable_nats=True)
    with pytest.warns(DeprecationWarning, match="enable_nats has no effect"):
        dynamo_worker(False)
