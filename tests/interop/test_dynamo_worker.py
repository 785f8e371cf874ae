"""A Muster frontend over a real dynamo.mocker."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
from pathlib import Path

import pytest

from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]


def test_lists_streams_and_drops_a_dynamo_workers_model(site: Site, deepseek: Path) -> None:
    mocker = site.dynamo_worker(deepseek, "acme/deep", "--max-model-len", "4096")
    frontend = site.frontend()
    frontend.wait_for_model("acme/deep")
    log = frontend.process.text()
    assert "tokenizer.json" in log
    assert "verified" in log

    reply = frontend.chat("acme/deep")
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 16

    options = {"include_usage": True}
    events = list(frontend.stream("acme/deep", max_tokens=64, stream_options=options))
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 64
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks[:-1])

    # The mocker refuses requests that name no max_tokens; ours fills in what the context has left.
    assert frontend.get("/v1/models")["data"][0]["context_window"] == 4096
    assert mocker.stop() in (0, -signal.SIGTERM)
    frontend.wait_for_no_model("acme/deep", timeout_s=30)
    with pytest.raises(urllib.error.HTTPError) as caught:
        frontend.chat("acme/deep")
    with caught.value as refused:
        assert refused.code == 404


def test_a_dynamo_worker_killed_mid_stream_gives_an_error_event(site: Site, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    mocker = site.dynamo_worker(write_tiny_model(model), "tiny", "--speedup-ratio", "0.2")
    frontend = site.frontend()
    frontend.wait_for_model("tiny")
    events = frontend.stream("tiny", max_tokens=500)
    assert "choices" in json.loads(next(events))
    mocker.kill()
    began = time.monotonic()
    rest = list(events)
    assert time.monotonic() - began < 2
    assert rest[-1] == "[DONE]"
    assert "error" in json.loads(rest[-2])
    with pytest.raises(urllib.error.HTTPError) as caught:
        frontend.chat("tiny")
    with caught.value as refused:
        assert refused.code == 503
        assert "error" in json.load(refused)
