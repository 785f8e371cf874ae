"""A request's context: its stop button, metadata, first token and trace."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.testing.loops import run
from muster.trace import TraceContext
from muster.wire.context import Context
from muster.wire.span import SpanProxy, set_sink
from muster.wire.trace_headers import context_from_headers, headers_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SENDER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", tracestate="a=1")


class Collector:
    """A sink that keeps what it is given."""

    def __init__(self, *, samples: bool = True) -> None:
        self.spans: list[SpanProxy] = []
        self._samples = samples

    def samples(self, trace_id: str) -> bool:
        return self._samples

    def export(self, span: SpanProxy) -> None:
        self.spans.append(span)


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    set_sink(made)
    yield made
    set_sink(None)


# -- identity and metadata -------------------------------------------------------------------


def test_an_id_is_made_if_none_is_given() -> None:
    assert uuid.UUID(Context().id()).version == 4
    assert Context().id() != Context().id()
    assert Context("mine").id() == "mine"


def test_metadata_is_live_and_can_be_replaced_by_a_copy() -> None:
    context = Context("r", {"a": "1"})
    context.metadata["b"] = "2"
    assert context.metadata == {"a": "1", "b": "2"}
    given = {"c": "3"}
    context.metadata = given
    given["d"] = "4"
    assert context.metadata == {"c": "3"}


def test_a_context_without_metadata_has_its_own_empty_one() -> None:
    Context().metadata["a"] = "1"
    assert Context().metadata == {}


# -- stop and kill ---------------------------------------------------------------------------


def test_a_stop_is_no_kill_but_a_kill_is_a_stop() -> None:
    context = Context()
    assert not context.is_stopped()
    context.stop_generating()
    assert (context.is_stopped(), context.is_killed()) == (True, False)
    context.kill()
    assert (context.is_stopped(), context.is_killed()) == (True, True)


def test_listeners_hear_each_change_once_and_late_ones_at_once() -> None:
    context, heard = Context(), list[str]()

    def listener() -> None:
        heard.append("heard")

    context.listen(listener)
    for _ in range(2):
        context.stop_generating()
    assert len(heard) == 1
    for _ in range(2):
        context.kill()
    assert len(heard) == 2
    context.listen(lambda: heard.append("late"))
    assert heard[-1] == "late"
    context.forget(listener)
    context.forget(listener)


@pytest.mark.parametrize("end", ["stop_generating", "kill"])
def test_whoever_waits_for_the_end_is_woken(end: str) -> None:
    async def scenario() -> None:
        context = Context()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(context.async_killed_or_stopped()) for _ in range(3)]
            await asyncio.sleep(0)
            assert not any(task.done() for task in tasks)
            getattr(context, end)()
        assert all(task.result() for task in tasks)
        assert await context.async_killed_or_stopped()

    run(scenario())


def test_a_cancelled_wait_leaves_no_listener() -> None:
    async def scenario() -> None:
        context = Context()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await context.async_killed_or_stopped()
        context.kill()

    run(scenario())


# -- the first token -------------------------------------------------------------------------


def test_the_first_token_is_told_once() -> None:
    context, heard = Context(), list[str]()
    context.on_first_token(lambda: heard.append("a"))
    context.on_first_token(lambda: heard.append("b"))
    assert heard == []
    context.notify_first_token()
    context.notify_first_token()
    assert heard == ["a", "b"]
    context.on_first_token(lambda: heard.append("late"))
    assert heard == ["a", "b", "late"]


def test_a_first_token_told_from_within_a_callback_is_not_told_again() -> None:
    context, heard = Context(), list[str]()

    def callback() -> None:
        heard.append("a")
        context.notify_first_token()
        context.on_first_token(lambda: heard.append("b"))

    context.on_first_token(callback)
    context.notify_first_token()
    assert heard == ["a", "b"]


# -- detached --------------------------------------------------------------------------------


def test_a_detached_context_keeps_trace_and_metadata_but_not_the_stop_button() -> None:
    context = Context("r", {"a": {"b": "1"}}, trace=SENDER.child(), x_request_id="x")
    context.kill()
    context.notify_first_token()
    other = context.detached("r2")
    assert (other.id(), other.is_stopped(), other.is_killed()) == ("r2", False, False)
    assert (other.trace, other.x_request_id) == (context.trace, "x")
    context.metadata["a"]["b"] = "2"
    assert other.metadata == {"a": {"b": "1"}}
    told: list[bool] = []
    other.on_first_token(lambda: told.append(True))
    assert told == []
    other.kill()


def test_stopping_the_detached_one_does_not_stop_the_first() -> None:
    context = Context("r")
    context.detached("r2").kill()
    assert not context.is_stopped()


# -- the trace -------------------------------------------------------------------------------


def test_a_request_without_a_trace_says_so() -> None:
    context = Context("r")
    assert (context.trace_id, context.span_id, context.parent_span_id) == (None, None, None)
    assert context.trace_headers() is None
    assert headers_of(context) == {"request-id": "r"}


def test_a_trace_goes_through_two_hops() -> None:
    first = Context("r", trace=SENDER, x_request_id="x")
    second = context_from_headers(headers_of(first), "r")
    third = context_from_headers(json.dumps(headers_of(second)).encode(), "r")
    assert second.trace_id == third.trace_id == first.trace_id
    assert second.parent_span_id == first.span_id
    assert third.parent_span_id == second.span_id
    assert len({first.span_id, second.span_id, third.span_id}) == 3
    assert third.trace is not None
    assert (third.trace.tracestate, third.x_request_id) == ("a=1", "x")


def test_the_headers_for_an_engine_name_this_span_as_the_parent() -> None:
    context = context_from_headers(
        {"traceparent": PARENT, "tracestate": "a=1", "x-request-id": "x"}, "r"
    )
    assert context.trace_headers() == {
        "traceparent": f"00-{context.trace_id}-{context.span_id}-01",
        "tracestate": "a=1",
        "request-id": "r",
        "x-request-id": "x",
    }
    bare = Context("r", trace=TraceContext(SENDER.trace_id, SENDER.span_id))
    assert bare.trace_headers() == {"traceparent": PARENT, "request-id": "r"}


def test_an_id_that_is_given_wins_over_the_headers() -> None:
    headers = {"request-id": "theirs"}
    assert context_from_headers(headers, "ours").id() == "ours"
    assert context_from_headers(headers).id() == "theirs"
    assert context_from_headers(b'{"request-id":"theirs"}').id() == "theirs"
    assert uuid.UUID(context_from_headers({}).id()).version == 4


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"{}",
        b"traceparent",
        b"\xff traceparent",
        b'["traceparent"]',
        b'{"traceparent":"garbage","tracestate":"a=1","x-request-id":7}',
        b'{"traceparent":null}',
        b'{"traceparent":["' + PARENT.encode() + b'"]}',
        {"traceparent": PARENT.upper()},
        {"x-request-id": ""},
        {"x-request-id": "a\nb"},
        {"x-request-id": "x" * 257},
    ],
)
def test_garbage_in_headers_is_ignored_and_no_trace_invented(
    headers: dict[str, str] | bytes, collector: Collector
) -> None:
    context = context_from_headers(headers, "r", {"m": 1})
    assert (context.id(), context.metadata) == ("r", {"m": 1})
    assert (context.trace, context.x_request_id) == (None, None)
    assert uuid.UUID(context_from_headers(headers).id()).version == 4
    assert collector.spans == []


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["traceparent", "tracestate", "x-request-id", "request-id", "other"]), JSON
    )
)
def test_any_headers_make_a_context_whose_headers_can_be_sent(headers: dict[str, Any]) -> None:
    context = context_from_headers(json.dumps(headers).encode())
    again = context_from_headers(headers_of(context))
    assert (again.id(), again.trace_id) == (context.id(), context.trace_id)


# -- spans -----------------------------------------------------------------------------------


def test_without_a_sink_a_span_keeps_its_data_and_a_trace_is_not_invented() -> None:
    context = Context("r")
    with context.start_span("work", {"a": 1}) as span:
        span.set_attribute("b", 2)
        span.add_event("happened", {"c": 3})
        span.set_status("ok")
    assert (span.name, span.attributes, span.status) == ("work", {"a": 1, "b": 2}, "ok")
    assert [(event.name, event.attributes) for event in span.events] == [("happened", {"c": 3})]
    assert span.end_ns is not None
    assert span.start_ns <= span.events[0].at_ns <= span.end_ns
    assert (span.trace, context.trace) == (None, None)
    assert context.begin_span("served", kind="server") is None


def test_the_current_span_is_one_and_stays_open() -> None:
    context = Context("r")
    with context.current_span() as span:
        span.set_attribute("a", 1)
    span.close()
    context.current_span().set_attribute("b", 2)
    assert context.current_span() is span
    assert (span.attributes, span.end_ns) == ({"a": 1, "b": 2}, None)


def test_a_span_does_not_change_after_its_end() -> None:
    span = Context("r").start_span("work")
    span.close()
    end = span.end_ns
    span.set_attribute("a", 1)
    span.add_event("late")
    span.set_status("error")
    span.close()
    assert (span.attributes, span.events, span.status, span.end_ns) == ({}, [], None, end)


def test_only_two_statuses_are_known() -> None:
    with pytest.raises(ValueError, match='"ok" or "error", not \'bogus\''):
        Context().start_span("work").set_status("bogus")


def test_an_exception_leaves_its_mark_on_the_span_and_goes_on() -> None:
    context = Context("r")
    with pytest.raises(KeyError), context.start_span("work") as span:
        raise KeyError("k")
    assert (span.status, span.description) == ("error", "KeyError")
    assert span.events[0].attributes == {"exception.type": "KeyError", "exception.message": "'k'"}


def test_spans_of_a_request_are_under_its_own(collector: Collector) -> None:
    context = context_from_headers({"traceparent": PARENT}, "r")
    served = context.begin_span("served", kind="server", attributes={"endpoint": "e"})
    assert served is not None
    assert context.current_span() is served
    with context.start_span("work"):
        context.current_span().set_attribute("a", 1)
    calling = context.begin_span("call", kind="client")
    assert calling is not None
    assert context_from_headers(headers_of(context, calling)).parent_span_id == (
        calling.trace and calling.trace.span_id
    )
    calling.end()
    served.close()
    served.end()
    by_name = {span.name: span for span in collector.spans}
    assert [*by_name] == ["work", "call", "served"]
    traces = {name: span.trace for name, span in by_name.items()}
    assert traces["served"] == context.trace
    assert all(trace and trace.trace_id == SENDER.trace_id for trace in traces.values())
    assert traces["work"] is not None
    assert traces["call"] is not None
    assert traces["work"].parent_id == traces["call"].parent_id == context.span_id
    assert by_name["served"].attributes == {"endpoint": "e", "a": 1}


def test_a_client_span_that_begins_the_trace_is_its_root(collector: Collector) -> None:
    context = Context("r")
    first = context.begin_span("call", kind="client")
    second = context.begin_span("call", kind="client")
    assert first is not None
    assert second is not None
    assert first.trace == context.trace
    assert first.trace is not None
    assert second.trace is not None
    assert first.trace.parent_id is None
    assert second.trace.parent_id == first.trace.span_id


def test_a_trace_that_its_beginner_does_not_record_is_carried_but_not_exported(
    collector: Collector,
) -> None:
    context = context_from_headers({"traceparent": PARENT[:-2] + "00"}, "r")
    assert context.begin_span("served", kind="server") is None
    context.start_span("work").close()
    assert collector.spans == []
    assert headers_of(context)["traceparent"].endswith("-00")


def test_a_trace_that_is_not_sampled_here_is_not_sampled_further_on() -> None:
    collector = Collector(samples=False)
    set_sink(collector)
    try:
        context = Context("r")
        assert context.begin_span("call", kind="client") is None
        context.start_span("work").close()
    finally:
        set_sink(None)
    assert collector.spans == []
    trace = TraceContext.from_headers(headers_of(context))
    assert trace is not None
    assert not trace.sampled


def test_lines_in_a_span_carry_its_ids_and_its_end_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from muster import log

    context = Context("r", trace=SENDER)
    seen: dict[str, Any] = {}
    with caplog.at_level("DEBUG", log.SPAN_TARGET):
        with context.start_span("work", {"a": 1}) as span:
            seen |= log.current().fields()
        assert log.current().fields() == {}
    assert span.trace is not None
    assert seen == {
        "trace_id": SENDER.trace_id,
        "span_id": span.trace.span_id,
        "parent_id": SENDER.span_id,
        "span_name": "work",
        "request_id": "r",
    }
    (line,) = caplog.records
    assert line.getMessage() == "span closed"
    facts = line.__dict__["facts"]
    assert facts["a"] == 1
    assert facts["time.duration_us"] >= 0
