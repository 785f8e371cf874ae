"""A request's spans on both ends are one trace, each under the one that asked for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from muster.discovery.memory import MemoryRegistry
from muster.errors import InvalidArgument
from muster.runtime import Context
from muster.testing.loops import run
from muster.testing.runtimes import loopback_settings, runtime_in
from muster.trace import TraceContext
from muster.wire.span import SpanProxy, set_sink

SENDER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


class Spans:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.ended: list[SpanProxy] = []

    def samples(self, trace_id: str) -> bool:
        return True

    def export(self, span: SpanProxy) -> None:
        self.ended.append(span)

    def named(self, name: str) -> SpanProxy:
        (found,) = (span for span in self.ended if span.name == name)
        return found


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    set_sink(made)
    yield made
    set_sink(None)


async def handler(request: Any, context: Context) -> AsyncIterator[Any]:
    yield context.trace_id
    if request == "fail":
        raise ValueError("boom")


@pytest.mark.parametrize("plane", ["tcp", "loopback"])
@pytest.mark.parametrize("request_body", ["work", "fail"])
def test_caller_and_worker_have_a_span_each(spans: Spans, plane: str, request_body: str) -> None:
    async def scenario() -> None:
        settings = loopback_settings(plane=plane)
        async with runtime_in(MemoryRegistry(), settings) as runtime:
            endpoint = runtime.endpoint("n.c.e")
            await runtime.serve(endpoint.id(), handler)
            client = await endpoint.client()
            context = Context("r", trace=SENDER.child())
            items = await client.direct(
                request_body, runtime.instance_id, annotated=False, context=context
            )
            seen = []
            try:
                async for item in items:
                    seen.append(item)
            except InvalidArgument:
                assert request_body == "fail"
            assert seen == [SENDER.trace_id]

    run(scenario())
    asked, served = spans.named("client_request"), spans.named("handle_payload")
    assert asked.trace is not None
    assert served.trace is not None
    assert {asked.trace.trace_id, served.trace.trace_id} == {SENDER.trace_id}
    assert served.trace.parent_id == asked.trace.span_id
    failed = request_body == "fail"
    assert (asked.status == "error", served.status == "error") == (failed, failed)
