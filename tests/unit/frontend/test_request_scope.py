from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from muster import log
from muster.errors import InvalidArgument, MusterError, WorkerUnavailable
from muster.frontend.request_scope import RequestScope
from muster.testing.exchanges import unanswered_exchange
from muster.wire.span import SpanProxy, set_sink

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def no_request_after() -> Iterator[None]:
    """Whose request it is stays set in a connection's task; these tests have none of their own."""
    token = log.set_request("before")
    yield
    log.reset(token)


class Spans:
    """Takes every span."""

    def __init__(self) -> None:
        self.ended: list[SpanProxy] = []

    def samples(self, trace_id: str) -> bool:
        return True

    def export(self, span: SpanProxy) -> None:
        self.ended.append(span)


@pytest.fixture
def spans() -> Iterator[Spans]:
    taken = Spans()
    set_sink(taken)
    yield taken
    set_sink(None)


def test_the_clients_trace_goes_on_in_a_span_of_the_frontend() -> None:
    context = RequestScope(
        unanswered_exchange(traceparent=PARENT, tracestate="a=1"), begin_trace=False
    ).context
    assert (context.trace_id, context.parent_span_id) == (TRACE_ID, "00f067aa0ba902b7")
    assert context.span_id not in (None, "00f067aa0ba902b7")
    assert (context.trace_headers() or {})["tracestate"] == "a=1"


@pytest.mark.parametrize("given", [None, "", "garbage", PARENT.replace("00-", "ff-", 1)])
def test_without_a_valid_trace_one_begins_only_if_it_is_wanted(given: str | None) -> None:
    headers = {} if given is None else {"traceparent": given}
    assert RequestScope(unanswered_exchange(**headers), begin_trace=False).context.trace is None
    trace = RequestScope(unanswered_exchange(**headers), begin_trace=True).context.trace
    assert trace is not None
    assert (trace.parent_id, trace.sampled) == (None, True)


@pytest.mark.parametrize(
    ("given", "carried"), [(None, None), ("job 17", "job 17"), ("x" * 257, None), ("a\tb", None)]
)
def test_the_clients_own_id_is_carried_if_it_is_usable(
    given: str | None, carried: str | None
) -> None:
    headers = {} if given is None else {"x_request_id": given}
    assert (
        RequestScope(unanswered_exchange(**headers), begin_trace=False).context.x_request_id
        == carried
    )


def test_lines_written_inside_carry_id_and_trace() -> None:
    async def body() -> None:
        with RequestScope(unanswered_exchange(traceparent=PARENT), begin_trace=False) as scope:
            assert log.current().request_id == scope.context.id()
            assert log.current().trace is scope.context.trace

    asyncio.run(body())


@pytest.mark.parametrize(
    ("error", "outcome", "code", "status"),
    [
        (None, "success", 200, None),
        (InvalidArgument("no"), "error", 400, None),
        (WorkerUnavailable("nobody"), "error", 503, "error"),
        (ZeroDivisionError(), "error", 500, "error"),
    ],
)
def test_a_span_ends_with_how_it_went(
    spans: Spans, error: Exception | None, outcome: str, code: int, status: str | None
) -> None:
    scope = RequestScope(unanswered_exchange(), begin_trace=False)
    with contextlib.suppress(MusterError, ZeroDivisionError), scope:
        if error is not None:
            raise error
    (span,) = spans.ended
    assert (span.name, span.kind, span.status) == ("http-request", "server", status)
    assert span.trace == scope.context.trace
    assert span.attributes == {
        "http.request.method": "POST",
        "url.path": "/v1/x",
        "request.outcome": outcome,
        "http.response.status_code": code,
    }


def test_a_client_that_leaves_with_its_whole_answer_has_cancelled_nothing(spans: Spans) -> None:
    answered = unanswered_exchange()
    answered.finished = True
    with (
        pytest.raises(asyncio.CancelledError),
        RequestScope(answered, begin_trace=False),
    ):
        raise asyncio.CancelledError
    (span,) = spans.ended
    assert span.attributes["request.outcome"] == "success"


def test_a_client_that_left_is_no_error(spans: Spans) -> None:
    with (
        pytest.raises(asyncio.CancelledError),
        RequestScope(unanswered_exchange(), begin_trace=False),
    ):
        raise asyncio.CancelledError
    (span,) = spans.ended
    assert (span.attributes["request.outcome"], span.status) == ("cancelled", None)


def test_a_stream_that_ends_with_an_error_event_is_one(spans: Spans) -> None:
    with RequestScope(unanswered_exchange(), begin_trace=False) as scope:
        scope.fail("disconnected")
    (span,) = spans.ended
    assert (span.status, span.description) == ("error", "disconnected")
    assert span.attributes["request.outcome"] == "error"
    assert span.attributes["http.response.status_code"] == 200
