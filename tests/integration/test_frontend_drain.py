"""How a frontend ends on SIGTERM: alone, and as several processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from muster.testing.api import Api
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = [pytest.mark.timeout(180), pytest.mark.parametrize("count", [1, 2])]

REFUSING = "DYN_HTTP_GRACEFUL_SHUTDOWN_TIMEOUT_SECS"
BUDGET = "MUSTER_DRAIN_TIMEOUT_SECS"


def started(site: Site, model: Path, count: int, *, speed: str = "1", **env: str) -> Api:
    """A frontend that serves the model, and a worker as slow as ``speed`` says."""
    site.worker(model, "tiny", "--speedup-ratio", speed)
    api = site.frontend("--processes", str(count), **env)
    if count > 1:
        wait_until(lambda: len(reports(api)) == count, "all are known")
        wait_until(lambda: all(one["status"] == "healthy" for one in reports(api)), "all serve it")
    api.wait_for_model("tiny")
    return api


def reports(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get("/v1/muster/models").get("processes", [])
    return found


def begun(api: Api, tokens: int, number: int = 1) -> list[Iterator[str]]:
    """Streams of which each has sent something."""
    streams = [api.stream("tiny", max_tokens=tokens) for _ in range(number)]
    for stream in streams:
        next(stream)
    return streams


def is_listening(api: Api) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(api.url).port or 0)) == 0


def drains(api: Api) -> bool:
    return bool(api.get("/health").get("stage") == "draining")


def ask(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    messages = [{"role": "user", "content": "hi"}]
    body = json.dumps({"model": "tiny", "messages": messages, "max_tokens": 1})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    reply = connection.getresponse()
    reply.read()
    return reply


def test_whoever_comes_while_streams_end_is_told_to_come_again(
    site: Site, model: Path, count: int
) -> None:
    api = started(site, model, count, **{REFUSING: "120"})
    host = urlsplit(api.url).netloc
    kept = http.client.HTTPConnection(host, timeout=10)
    assert ask(kept).status == 200
    streams = begun(api, 300, number=8)
    api.process.signal(signal.SIGTERM)
    wait_until(lambda: drains(api), "it drains")
    fresh = http.client.HTTPConnection(host, timeout=10)
    # Of several processes, one without a stream has ended and taken its connections along.
    for connection in (kept, fresh) if count == 1 else (fresh,):
        reply = ask(connection)
        assert reply.status == 503
        assert int(reply.headers["retry-after"]) >= 1
        connection.close()
    kept.close()
    assert [[*stream][-1] for stream in streams] == ["[DONE]"] * 8
    assert api.process.wait() == 0  # at once, not after two minutes


def test_streams_go_on_when_nobody_listens_any_more(site: Site, model: Path, count: int) -> None:
    api = started(site, model, count, **{REFUSING: "0.1"})
    (stream,) = begun(api, 600)
    api.process.signal(signal.SIGTERM)
    wait_until(lambda: not is_listening(api), "it does not listen")
    assert api.process.is_running()
    assert [*stream][-1] == "[DONE]"
    assert api.process.wait() == 0


def test_a_stream_without_end_is_cut_off(site: Site, model: Path, count: int) -> None:
    api = started(site, model, count, speed="0.01", **{BUDGET: "0.5"})
    (stream,) = begun(api, 2000)
    api.process.signal(signal.SIGTERM)
    assert api.process.wait() == 0
    assert "responses in flight were cut off" in api.process.text()
    assert "[DONE]" not in [*stream]


def test_a_signal_to_every_process_at_once_is_one_signal(
    site: Site, model: Path, count: int
) -> None:
    """As systemd sends it to a whole control group."""
    api = started(site, model, count)
    streams = begun(api, 300, number=4)
    pids = [each["pid"] for each in reports(api)]
    for pid in (*pids, api.process.pid):
        os.kill(pid, signal.SIGTERM)
    assert [[*stream][-1] for stream in streams] == ["[DONE]"] * 4
    assert api.process.wait() == 0


def test_a_second_signal_cuts_off(site: Site, model: Path, count: int) -> None:
    api = started(site, model, count, speed="0.01")
    streams = begun(api, 2000)  # closed when they are let go
    api.process.signal(signal.SIGTERM)
    wait_until(lambda: drains(api), "it drains")
    api.process.signal(signal.SIGTERM)
    assert api.process.wait() == -signal.SIGTERM
    assert streams
