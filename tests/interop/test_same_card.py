"""A Muster and a Dynamo worker of one model directory: one digest, one model, served together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from muster.model.card import ModelDeploymentCard
from muster.testing.api import Api
from muster.testing.process import Process
from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model
from muster.testing.waiting import wait_until

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

SAME = ("--max-model-len", "1024", "--block-size", "32")

DYNAMO_REGISTERS = """
import asyncio, sys, uvloop
from dynamo.runtime import dynamo_worker
from dynamo.llm import ModelInput, ModelType, WorkerType, register_model

@dynamo_worker()
async def main(runtime):
    endpoint = runtime.endpoint("dynamo.backend.generate")
    async def handler(request):
        yield {"token_ids": [97], "index": 0, "finish_reason": "length"}
    await register_model(ModelInput.Tokens, ModelType.Chat | ModelType.Completions, endpoint,
                         sys.argv[1] if len(sys.argv) > 1 else MODEL, "tiny",
                         worker_type=WorkerType.Aggregated)
    await endpoint.serve_endpoint(handler)
uvloop.run(main())
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    return write_tiny_model(directory)


def cards(site: Site) -> list[dict[str, Any]]:
    return [record["card_json"] for record in site.records("v1/mdc").values()]


def digests(site: Site) -> set[str]:
    return {ModelDeploymentCard.from_json_str(json.dumps(card)).mdcsum() for card in cards(site)}


def test_extra_files_with_awkward_names_give_one_digest(site: Site, model: Path) -> None:
    names = ["weird name.json", "é.txt", "a+b.json", "c(d).md", "e,f'g!.txt", "h@i=j~k.json"]
    names += ["l[m]n.json", "o$p&q;r:s.txt", "t*u.txt", "-leading.json", "v^w|x.txt", "y`z{0}.txt"]
    for name in names:
        (model / name).write_text(name)
    site.worker(model, "tiny", role="muster")
    code = DYNAMO_REGISTERS.replace("MODEL", repr(str(model)))
    site.dynamo_script(code, role="dynamo", DYN_SYSTEM_PORT="0")
    wait_until(lambda: len(cards(site)) == 2, "both registered")
    ours, theirs = (
        sorted(f["path"].rpartition("/")[2] for f in c["extra_files"]) for c in cards(site)
    )
    assert ours == theirs
    assert len(digests(site)) == 1


@pytest.fixture
def both(site: Site, model: Path) -> tuple[Process, Process]:
    muster = site.worker(model, "tiny", "--speedup-ratio", "0", *SAME, role="muster")
    dynamo = site.dynamo_worker(model, "tiny", *SAME)
    assert len(digests(site)) == 1, cards(site)
    return muster, dynamo


@pytest.mark.parametrize("kind", ["muster", "dynamo"])
def test_they_serve_together_behind_either_frontend(
    site: Site, both: tuple[Process, Process], kind: str
) -> None:
    frontend: Api = site.frontend() if kind == "muster" else site.dynamo_frontend()
    frontend.wait_for_model("tiny")

    # Muster's mock speaks the model's own words, Dynamo's emits ids this vocabulary lacks.
    def both_answered() -> bool:
        texts = {bool(frontend.chat("tiny")["choices"][0]["message"]["content"]) for _ in range(4)}
        return texts == {True, False}

    wait_until(both_answered, "requests go to both workers", timeout_s=20)
    muster, dynamo = both
    assert muster.stop() == 0
    wait_until(lambda: len(cards(site)) == 1, "one left")
    assert frontend.models() == ["tiny"]
    assert frontend.chat("tiny")["usage"]["completion_tokens"] == 16
    dynamo.stop()
    frontend.wait_for_no_model("tiny", timeout_s=30)
