"""A real Dynamo frontend over a Muster worker: finds it, fetches its files from it, chats, lets go."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from blake3 import blake3

from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]


def card_in(site: Site) -> dict[str, object]:
    (record,) = site.records("v1/mdc").values()
    card: dict[str, object] = record["card_json"]
    return card


def metadata_requests(card: dict[str, object]) -> float:
    """How many files the worker's status server has served."""
    info = card["model_info"]
    assert isinstance(info, dict)
    base = info["hf_config_json"]["path"].partition("/v1/")[0]
    with urllib.request.urlopen(f"{base}/metrics", timeout=10) as reply:
        for line in reply.read().decode().splitlines():
            if line.startswith('muster_metadata_requests_total{outcome="served"}'):
                return float(line.split()[-1])
    return 0.0


def test_lists_streams_and_drops_a_muster_workers_model(site: Site, deepseek: Path) -> None:
    worker = site.worker(deepseek, "acme/deep", "--speedup-ratio", "0")
    dynamo = site.dynamo_frontend()
    dynamo.wait_for_model("acme/deep")

    # The files came from the worker's status server and were verified: nothing else names them.
    card = card_in(site)
    assert '"path": "/' not in json.dumps(card)
    assert metadata_requests(card) >= 4
    blobs = site.home("dynamo-frontend") / ".cache" / "dynamo" / "mdc" / "blobs"
    held = {path.name: path for path in blobs.iterdir()}
    tokenizer = (deepseek / "tokenizer.json").read_bytes()
    assert held[blake3(tokenizer).hexdigest()].read_bytes() == tokenizer

    reply = dynamo.chat("acme/deep")
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 16
    assert reply["choices"][0]["message"]["content"].strip()

    events = list(dynamo.stream("acme/deep", max_tokens=64))
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert len(text.split()) > 10
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] == "length"

    assert worker.stop() == 0
    dynamo.wait_for_no_model("acme/deep", timeout_s=10)
    assert site.records("v1/mdc") == {}
    assert site.records("v1/instances") == {}


def test_forgets_a_muster_worker_that_died_without_a_word(site: Site, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    worker = site.worker(write_tiny_model(model), "tiny", "--speedup-ratio", "0")
    dynamo = site.dynamo_frontend()
    dynamo.wait_for_model("tiny")
    assert dynamo.chat("tiny")["usage"]["completion_tokens"] == 16
    worker.kill()
    dynamo.wait_for_no_model("tiny", timeout_s=30)
