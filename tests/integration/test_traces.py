"""A request's trace and ids from the client through a frontend to a worker, in processes of their own."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from muster.testing.api import Api
from muster.testing.process import Process
from muster.testing.site import Site
from muster.testing.traced_worker import (
    TRACE_ID,
    TRACEPARENT,
    ask,
    seen,
    wait_for_lines,
    worker_script,
)

pytestmark = pytest.mark.timeout(120)


def start(site: Site, model: Path, **env: str) -> tuple[Process, Api]:
    worker = site.script(worker_script(model), role="worker", DYN_SYSTEM_PORT="0")
    frontend = site.frontend(**env)
    frontend.wait_for_model("tiny")
    return worker, frontend


def test_lines_of_both_processes_carry_the_clients_trace_and_the_requests_id(
    site: Site, model: Path
) -> None:
    worker, frontend = start(site, model, DYN_LOGGING_JSONL="1", DYN_LOG="debug")
    headers, reply = ask(
        frontend, traceparent=TRACEPARENT, tracestate="vendor=1", x_request_id="job 17"
    )
    assert headers["x-request-id"] == "job 17"
    request_id = reply["id"].removeprefix("chatcmpl-")

    (told,) = seen(worker)
    assert told["id"] == request_id
    assert told["trace_id"] == TRACE_ID
    sent = told["trace_headers"]
    assert sent == {
        "traceparent": f"00-{TRACE_ID}-{told['span_id']}-01",
        "tracestate": "vendor=1",
        "request-id": request_id,
        "x-request-id": "job 17",
    }

    (ours,) = wait_for_lines(frontend.process, "request ended", 1)
    (theirs,) = wait_for_lines(worker, "the worker has the request", 1)
    assert ours["request_id"] == theirs["request_id"] == request_id
    assert ours["trace_id"] == theirs["trace_id"] == TRACE_ID
    assert ours["parent_id"] == "00f067aa0ba902b7"
    assert theirs["parent_id"] == ours["span_id"]
    assert theirs["span_id"] == told["span_id"]


def test_with_json_lines_a_trace_begins_at_the_frontend(site: Site, model: Path) -> None:
    worker, frontend = start(site, model, DYN_LOGGING_JSONL="1", DYN_LOG="debug")
    ask(frontend)
    ask(frontend, traceparent="00-not-a-trace")
    first, second = seen(worker)
    assert first["trace_id"] != second["trace_id"]
    answered = wait_for_lines(frontend.process, "request ended", 2)
    ours = {event["trace_id"]: event["span_id"] for event in answered}
    assert ours == {told["trace_id"]: told["parent_span_id"] for told in (first, second)}


def test_without_json_lines_only_a_clients_trace_is_carried(site: Site, model: Path) -> None:
    worker, frontend = start(site, model)
    given = str(uuid.uuid4())
    headers, reply = ask(frontend, x_request_id=given)
    ask(frontend, traceparent=TRACEPARENT)
    without, with_ = seen(worker)
    assert (without["trace_id"], without["trace_headers"]) == (None, None)
    assert headers["x-request-id"] == without["id"] == given
    assert reply["id"] == f"chatcmpl-{given}"
    assert with_["trace_id"] == TRACE_ID
