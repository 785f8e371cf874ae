"""Real processes of Muster: how they end, and what their clients see when they do."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from muster.testing.ports import free_port
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(120)

SLOW = ("--speedup-ratio", "0.2")
FAST = ("--speedup-ratio", "0")


def test_a_worker_killed_mid_stream_gives_an_error_event_and_a_503_that_says_why(
    site: Site, model: Path
) -> None:
    worker = site.worker(model, "tiny", *SLOW)
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    events = frontend.stream("tiny", max_tokens=500)
    assert json.loads(next(events))["choices"][0]["delta"]["role"] == "assistant"
    worker.kill()
    began = time.monotonic()
    rest = list(events)
    assert time.monotonic() - began < 2
    assert rest[-1] == "[DONE]"
    assert "lost" in json.loads(rest[-2])["error"]["message"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        frontend.chat("tiny")
    with caught.value as refused:
        assert refused.code == 503
        assert refused.headers["retry-after"]
        assert "127.0.0.1" in json.load(refused)["error"]["message"]
    frontend.wait_for_no_model("tiny", timeout_s=20)  # at the time to live
    assert site.records("v1/instances") == {}  # and somebody has swept up


def test_after_a_kill_requests_go_to_the_other_worker(site: Site, model: Path) -> None:
    first = site.worker(model, "tiny", *FAST, role="first")
    site.worker(model, "tiny", *FAST, role="second")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    wait_until(lambda: len(frontend.get("/health")["instances"]) == 2, "both seen")
    first.kill()
    for _ in range(10):
        assert frontend.chat("tiny")["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_withdraws_at_once_and_lets_the_stream_finish(
    site: Site, model: Path, number: signal.Signals
) -> None:
    worker = site.worker(model, "tiny", "--speedup-ratio", "1")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    events = frontend.stream("tiny", max_tokens=200)
    chunks = [next(events)]
    worker.signal(number)
    wait_until(lambda: not site.records("v1/mdc"), "card withdrawn", timeout_s=2)
    wait_until(lambda: not site.records("v1/instances"), "instance withdrawn", timeout_s=2)
    assert worker.is_running()
    chunks += list(events)
    assert chunks[-1] == "[DONE]"
    assert json.loads(chunks[-2])["choices"][0]["finish_reason"] == "length"
    assert worker.wait() == 0


def test_a_second_signal_does_not_wait_for_the_stream(site: Site, model: Path) -> None:
    worker = site.worker(model, "tiny", *SLOW)
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    events = frontend.stream("tiny", max_tokens=1000)
    next(events)
    worker.signal(signal.SIGTERM)
    wait_until(lambda: not site.records("v1/instances"), "instance withdrawn", timeout_s=2)
    worker.signal(signal.SIGTERM)
    assert worker.wait(3) == -signal.SIGTERM
    assert "error" in json.loads(list(events)[-2])


def test_a_frontend_told_to_stop_finishes_its_streams(site: Site, model: Path) -> None:
    site.worker(model, "tiny", "--speedup-ratio", "1")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    events = frontend.stream("tiny", max_tokens=150)
    chunks = [next(events)]
    frontend.process.signal(signal.SIGTERM)
    chunks += list(events)
    assert chunks[-1] == "[DONE]"
    assert len(chunks) > 50
    assert frontend.process.wait() == 0


SCRIPT = """
import asyncio, sys, time, uvloop
from muster.runtime import DistributedRuntime

async def handler(request):
    yield 1

async def main():
    {body}

uvloop.run(main())
"""

ENDS = {
    "raises inside the block": """
    async with DistributedRuntime() as runtime:
        await runtime.serve(runtime.endpoint("n.c.e").id(), lambda request, context: handler(request))
        print("up", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        raise RuntimeError("user's own")""",
    "raises without a block": """
    runtime = DistributedRuntime()
    await runtime.serve(runtime.endpoint("n.c.e").id(), lambda request, context: handler(request))
    print("up", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    raise RuntimeError("user's own")""",
    "returns without closing": """
    runtime = DistributedRuntime()
    await runtime.serve(runtime.endpoint("n.c.e").id(), lambda request, context: handler(request))
    print("up", flush=True)""",
}


@pytest.mark.parametrize("name", ENDS)
def test_records_go_away_however_a_process_ends(site: Site, name: str) -> None:
    process = site.script(SCRIPT.format(body=ENDS[name]), role="script")
    code = process.wait()
    assert ("up" in process.text(), code == 0) == (True, "raises" not in name)
    assert site.records("v1/instances") == {}


def test_a_signal_ends_a_script_that_awaits_something_else(site: Site) -> None:
    body = """
    runtime = DistributedRuntime()
    await runtime.serve(runtime.endpoint("n.c.e").id(), lambda request, context: handler(request))
    await asyncio.sleep(3600)"""
    process = site.script(SCRIPT.format(body=body), role="script")
    wait_until(lambda: site.records("v1/instances"), "registered")
    process.signal(signal.SIGTERM)
    wait_until(lambda: not site.records("v1/instances"), "withdrawn", timeout_s=2)
    assert process.wait(10) == -signal.SIGTERM


def test_a_blocked_loop_keeps_its_record_and_a_killed_process_loses_it(site: Site) -> None:
    body = """
    async with DistributedRuntime() as runtime:
        await runtime.serve(runtime.endpoint("n.c.e").id(), lambda request, context: handler(request))
        time.sleep(3600)"""
    watcher_body = """
    async with DistributedRuntime() as runtime:
        client = await runtime.endpoint("n.c.e").client()
        while True:
            print(len(client.instance_ids()), flush=True)
            await asyncio.sleep(0.1)"""
    short = {"MUSTER_FILE_TTL_SECS": "1", "MUSTER_DISCOVERY_POLL_SECS": "0.2"}
    blocked = site.script(SCRIPT.format(body=body), role="blocked", **short)
    wait_until(lambda: site.records("v1/instances"), "registered")
    watcher = site.script(SCRIPT.format(body=watcher_body), role="watcher", **short)
    wait_until(lambda: watcher.text().splitlines(), "watching")
    threading.Event().wait(3)  # three times to live with the loop blocked
    assert set(watcher.text().split()) == {"1"}
    blocked.kill()
    wait_until(lambda: watcher.text().split()[-1] == "0", "forgotten", timeout_s=4)
    assert site.records("v1/instances") == {}


def test_a_worker_without_a_model_says_so_and_leaves_nothing(site: Site, tmp_path: Path) -> None:
    import sys

    process = site.start(
        "worker",
        [sys.executable, "-m", "muster.cli.main", "worker", "--model-path", str(tmp_path / "no")],
    )
    assert process.wait() == 1
    assert "neither a directory nor a model in the hub cache" in process.text()
    assert "Traceback" not in process.text()
    assert site.records("v1/mdc") == site.records("v1/instances") == {}


def test_a_worker_with_a_canary_proves_its_engine_before_it_is_ready(
    site: Site, model: Path
) -> None:
    port = free_port()
    site.worker(
        model,
        "tiny",
        "--system-port",
        str(port),
        DYN_HEALTH_CHECK_ENABLED="true",
        DYN_CANARY_WAIT_TIME="0.1",
    )

    def ready() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(json.load(reply)["status"] == "ready")

    wait_until(ready, "the canary has proved the engine")
