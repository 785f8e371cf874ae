"""Real Dynamo workers behind our frontend: killed mid-stream, continued; sessions by header."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]


def test_a_stream_of_a_killed_dynamo_worker_goes_on_at_another(site: Site, deepseek: Path) -> None:
    mockers = [
        site.dynamo_worker(deepseek, "deep", "--speedup-ratio", "0.5", role=f"mocker{k}")
        for k in range(2)
    ]
    frontend = site.frontend()
    frontend.wait_for_model("deep")
    wait_until(
        lambda: len(frontend.get("/v1/muster/models")["models"][0]["replicas"]) == 2, "both there"
    )
    options = {"include_usage": True}
    streams = [
        frontend.stream("deep", max_tokens=200, stream_options=options, ignore_eos=True)
        for _ in mockers
    ]
    started = [[next(stream) for _ in range(10)] for stream in streams]  # one at each
    mockers[0].kill()
    for events, stream in zip(started, streams, strict=True):
        events += stream
        assert events[-1] == "[DONE]"
        chunks = [json.loads(event) for event in events[:-1]]
        assert not [chunk for chunk in chunks if "error" in chunk]
        assert chunks[-1]["usage"]["completion_tokens"] == 200
        assert chunks[-1]["usage"]["total_tokens"] == 200 + chunks[-1]["usage"]["prompt_tokens"]
        assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert frontend.process.text().count("request moved to another instance") == 1


def test_a_dynamo_worker_takes_requests_of_a_session(site: Site, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    site.dynamo_worker(write_tiny_model(model), "tiny")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    request = urllib.request.Request(
        frontend.url + "/v1/completions",
        data=json.dumps({"model": "tiny", "prompt": "x", "max_tokens": 5}).encode(),
        headers={
            "content-type": "application/json",
            "x-session-id": "abc",
            "x-muster-trace": "1",
        },
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        trace = json.loads(reply.headers["x-muster-trace"])
        answer = json.load(reply)
    assert answer["usage"]["completion_tokens"] == 5
    assert trace["prompts"][0]["session"] == "home"
