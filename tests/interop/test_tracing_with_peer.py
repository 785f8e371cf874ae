"""Trace ids between a Muster frontend and a Dynamo worker, and the reverse, with JSON lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.traced_worker import (
    TRACE_ID,
    TRACEPARENT,
    ask,
    events,
    seen,
    wait_for_lines,
    worker_script,
)

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

LINES = {"DYN_LOGGING_JSONL": "1", "DYN_LOG": "debug"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    return write_tiny_model(directory)


def test_a_dynamo_worker_has_the_trace_of_a_muster_frontends_request(
    site: Site, model: Path
) -> None:
    script = worker_script(model, dynamo=True)
    worker = site.dynamo_script(script, role="worker", **(LINES | {"DYN_SYSTEM_PORT": "0"}))
    frontend = site.frontend(**LINES)
    frontend.wait_for_model("tiny")
    ask(frontend, traceparent=TRACEPARENT, x_request_id="job 17")
    ask(frontend)
    # Flags of the standard's second level, which 1.6.1 would take for a malformed header.
    ask(frontend, traceparent=f"{TRACEPARENT[:-2]}03")
    first, second, third = seen(worker)
    assert third["trace_id"] == TRACE_ID
    assert first["trace_id"] == TRACE_ID
    answered = wait_for_lines(frontend.process, "request ended", 3)
    for key, told in (("trace_id", "trace_id"), ("request_id", "id")):
        assert [event[key] for event in answered] == [each[told] for each in seen(worker)]
    assert answered[0]["parent_id"] == "00f067aa0ba902b7"
    theirs = {event["trace_id"] for event in events(worker) if "trace_id" in event}
    assert {first["trace_id"], second["trace_id"]} <= theirs


def test_a_muster_worker_has_the_trace_of_a_dynamo_frontends_request(
    site: Site, model: Path
) -> None:
    worker = site.script(worker_script(model), role="worker", DYN_SYSTEM_PORT="0")
    frontend = site.dynamo_frontend(**LINES)
    frontend.wait_for_model("tiny")
    ask(frontend, traceparent=TRACEPARENT, x_request_id="job 17")
    (told,) = seen(worker)
    assert told["trace_id"] == TRACE_ID
    assert told["trace_headers"]["traceparent"] == f"00-{TRACE_ID}-{told['span_id']}-01"
    (line,) = wait_for_lines(worker, "the worker has the request", 1)
    assert (line["trace_id"], line["request_id"]) == (TRACE_ID, told["id"])
    theirs = {event["trace_id"] for event in events(frontend.process) if "trace_id" in event}
    assert TRACE_ID in theirs
