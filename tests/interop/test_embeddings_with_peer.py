"""Embeddings across: our frontend over a Dynamo worker, a Dynamo frontend over ours."""

from __future__ import annotations

import base64
import json
import struct
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, processors

from muster.testing.api import Api
from muster.testing.process import Process
from muster.testing.site import Site
from muster.testing.tiny_model import BOS, EOS, token_ids, write_tiny_model
from muster.testing.waiting import wait_until
from muster.worker.engines.mock_embedder import mock_vector

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

WORKER = r"""
import asyncio, base64, json, struct
from dynamo.llm import ModelInput, ModelType, WorkerType, register_model
from dynamo.runtime import dynamo_worker

KIND, DIRECTORY, NAME = ARGUMENTS

def packed(n):
    return base64.b64encode(struct.pack("<2f", 0.5, float(n))).decode()

async def handler(request, context):
    print("GOT " + json.dumps(request), flush=True)
    if KIND == "Tokens":
        count = len(request["token_ids"])
        yield {"embeddings": [packed(n) for n in range(count)], "prompt_tokens": 5,
               "total_tokens": 5}
    else:
        given = request["input"]
        count = 1 if isinstance(given, str) or isinstance(given[0], int) else len(given)
        data = [{"object": "embedding", "embedding": packed(n), "index": n} for n in range(count)]
        yield {"object": "list", "data": data, "model": "x",
               "usage": {"prompt_tokens": 5, "total_tokens": 5}}

@dynamo_worker()
async def main(runtime):
    endpoint = runtime.endpoint("dynamo.embedder.generate")
    await register_model(
        getattr(ModelInput, KIND), ModelType.Embedding, endpoint, DIRECTORY, NAME,
        worker_type=WorkerType.Aggregated,
    )
    await endpoint.serve_endpoint(handler)

asyncio.run(main())
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One whose tokenizer begins and ends a text with a token, if it is asked to."""
    directory = tmp_path / "model"
    directory.mkdir()
    write_tiny_model(directory, context_length=64)
    path = str(directory / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A <|eos|>", special_tokens=[("<|bos|>", BOS), ("<|eos|>", EOS)]
    )
    tokenizer.save(path)
    return directory


def dynamo_worker(site: Site, model: Path, kind: str) -> Process:
    code = WORKER.replace("ARGUMENTS", repr((kind, str(model), "vectors")))
    worker = site.dynamo_script(code, role="embedder", DYN_SYSTEM_PORT="0")
    wait_until(lambda: site.records("v1/mdc"), "model registered")
    return worker


def embed(api: Api, **body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        api.url + "/v1/embeddings",
        data=json.dumps({"model": "vectors", "input": "hi"} | body).encode(),
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def got(worker: Process) -> list[dict[str, Any]]:
    """The requests that the worker has had."""
    lines = worker.text().splitlines()
    return [json.loads(line[4:]) for line in lines if line.startswith("GOT ")]


BODIES: list[dict[str, Any]] = [
    {},
    {"input": ["hi", "yo"]},
    {"input": [1, 2, 3]},
    {"input": [[1, 2], [3]]},
    {"dimensions": 2},
    {"encoding_format": "base64"},
    {"encoding_format": "float", "user": "bob"},
    {"add_special_tokens": False},
    {"truncate_prompt_tokens": 1},
    {"truncate_prompt_tokens": -1, "input": "x" * 80},
    {"nvext": {"annotations": ["x"]}},
]


@pytest.mark.parametrize("kind", ["Tokens", "Text"])
def test_a_dynamo_worker_gets_from_us_what_its_own_frontend_sends(
    site: Site, model: Path, kind: str
) -> None:
    worker = dynamo_worker(site, model, kind)
    ours, theirs = site.frontend(), site.dynamo_frontend()
    for api in (ours, theirs):
        api.wait_for_model("vectors")
    for body in BODIES:
        before = len(got(worker))
        (status, mine), (peer_status, peers) = embed(ours, **body), embed(theirs, **body)
        assert status == peer_status == 200, (body, mine, peers)
        assert mine["data"] == peers["data"], body
        assert mine["usage"] == peers["usage"], body
        wait_until(lambda: len(got(worker)) == before + 2, "both requests seen")  # noqa: B023
        sent, peers_sent = got(worker)[before:]
        assert sent == peers_sent, body


def test_whether_texts_get_special_tokens_is_set_at_both_frontends_alike(
    site: Site, model: Path
) -> None:
    worker = dynamo_worker(site, model, "Tokens")
    setting = {"DYN_EMBEDDING_TOKENIZATION_ADD_SPECIAL_TOKENS": "off"}
    for api in (site.frontend(**setting), site.dynamo_frontend(**setting)):
        api.wait_for_model("vectors")
        assert embed(api)[0] == 200
        assert embed(api, add_special_tokens=True)[0] == 200
    wait_until(lambda: len(got(worker)) == 4, "all requests seen")
    plain = token_ids("hi")
    asked = [request["token_ids"] for request in got(worker)]
    assert asked == [[plain], [[BOS, *plain, EOS]]] * 2


def test_a_dynamo_frontend_reads_what_our_worker_gives(site: Site, model: Path) -> None:
    options = ("--endpoint-types", "embeddings", "--embedding-dimensions", "16")
    worker = site.worker(model, "vectors", *options, "--speedup-ratio", "0")
    (record,) = site.records("v1/mdc").values()
    assert record["card_json"]["model_type"] == "Embedding"
    dynamo, ours = site.dynamo_frontend(), site.frontend()
    for api in (dynamo, ours):
        api.wait_for_model("vectors")
        status, reply = embed(api, input=["hi", "sea"], dimensions=8)
        assert status == 200, reply
        vectors = [entry["embedding"] for entry in reply["data"]]
        ids = [[BOS, *token_ids(text), EOS] for text in ("hi", "sea")]
        expected = [mock_vector(each, 8) for each in ids]
        assert vectors == [pytest.approx([*each], abs=1e-6) for each in expected]
        assert reply["usage"] == {"prompt_tokens": 9, "total_tokens": 9}
        status, reply = embed(api, encoding_format="base64")
        data = base64.b64decode(reply["data"][0]["embedding"])
        assert [*struct.unpack("<16f", data)] == [*mock_vector(ids[0], 16)]
        assert embed(api, dimensions=17)[0] == 400
    assert worker.stop() == 0
    dynamo.wait_for_no_model("vectors", timeout_s=10)
