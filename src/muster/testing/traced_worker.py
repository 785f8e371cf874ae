"""A worker that prints what it is told of each request's trace; for Muster and for a real Dynamo."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from muster.testing.api import Api
from muster.testing.process import Process
from muster.testing.waiting import wait_until

__all__ = ["TRACEPARENT", "TRACE_ID", "ask", "events", "seen", "wait_for_lines", "worker_script"]

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"

_SCRIPT = """
import asyncio, json, logging, uvloop
from PACKAGE.runtime import dynamo_worker
from MODELS import ModelInput, ModelType, WorkerType, register_model
SETUP

async def generate(request, context):
    told = {
        "id": context.id(), "trace_id": context.trace_id, "span_id": context.span_id,
        "parent_span_id": context.parent_span_id, "trace_headers": context.trace_headers(),
    }
    print("SEEN " + json.dumps(told), flush=True)
    logging.getLogger("traced").warning("the worker has the request")
    yield {"token_ids": [111, 107], "index": 0, "finish_reason": "stop"}

@dynamo_worker()
async def main(runtime):
    endpoint = runtime.endpoint("ns.traced.generate")
    serving = asyncio.ensure_future(endpoint.serve_endpoint(generate))
    await register_model(
        ModelInput.Tokens, ModelType.Chat | ModelType.Completions, endpoint, MODEL, "tiny",
        worker_type=WorkerType.Aggregated,
    )
    await serving

uvloop.run(main())
"""


def worker_script(model: Path, *, dynamo: bool = False) -> str:
    """The script of a worker of ``model``, called ``tiny``, on Muster or on Dynamo."""
    setup = "" if dynamo else "import muster.log\nmuster.log.configure(jsonl=True)"
    return (
        _SCRIPT.replace("PACKAGE", "dynamo" if dynamo else "muster")
        .replace("MODELS", "dynamo.llm" if dynamo else "muster")
        .replace("MODEL,", f"{str(model)!r},")
        .replace("SETUP", setup)
    )


def ask(frontend: Api, **headers: str) -> tuple[dict[str, str], Any]:
    """Headers, in lower case, and body of the reply to a chat sent with these headers."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 4}
    sent = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    request = urllib.request.Request(
        f"{frontend.url}/v1/chat/completions", data=json.dumps(body).encode(), headers=sent
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return {name.lower(): value for name, value in reply.headers.items()}, json.load(reply)


def seen(worker: Process) -> list[dict[str, Any]]:
    """What the worker was told of each of its requests."""
    lines = worker.text().splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("SEEN ")]


def events(process: Process) -> list[dict[str, Any]]:
    """The JSON lines of a process's log so far."""
    whole, _, _ = process.text().rpartition("\n")  # the last one may be half written
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def wait_for_lines(process: Process, message: str, count: int) -> list[dict[str, Any]]:
    """The first ``count`` lines with this message; they may come after the reply."""

    def found() -> list[dict[str, Any]]:
        lines = [event for event in events(process) if event["message"] == message]
        return lines if len(lines) >= count else []

    lines: list[dict[str, Any]] = wait_until(found, f"{count} times {message!r} in the log")
    return lines
