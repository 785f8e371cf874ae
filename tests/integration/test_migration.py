"""A worker is killed while it answers: another one goes on, and the client sees one answer."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from muster.testing.api import Api
from muster.testing.counting import letters
from muster.testing.process import Process
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(150)

SCRIPT = """
import asyncio
from muster.config.settings import Settings
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.publish.register import register_model
from muster.runtime import DistributedRuntime
from muster.testing.counting import CountingEngine

class Saying(CountingEngine):
    async def generate(self, request, context):
        print("asked", flush=True)
        async for item in super().generate(request, context):
            yield item

async def main():
    async with DistributedRuntime(settings=Settings.load()) as runtime:
        at = runtime.endpoint("ns.backend.generate")
        await runtime.serve(at.id(), Saying(delay_s=DELAY).generate)
        await register_model(
            ModelInput.Tokens, ModelType.Chat | ModelType.Completions, at, MODEL, "tiny",
            worker_type=WorkerType.Aggregated,
        )
        print("registered", flush=True)
        await runtime.wait_closed()

asyncio.run(main())
"""


def start_workers(
    site: Site, model: Path, count: int, *, delay_s: float = 0.01, first: int = 0
) -> list[Process]:
    code = SCRIPT.replace("MODEL", repr(str(model))).replace("DELAY", repr(delay_s))
    numbers = range(first, first + count)
    workers = [site.script(code, role=f"worker{k}", DYN_SYSTEM_PORT="0") for k in numbers]
    wait_until(lambda: all("registered" in worker.text() for worker in workers), "registered")
    return workers


def start_frontend(site: Site, replicas: int, *options: str, **env: str) -> Api:
    api = site.frontend(*options, **env)
    api.wait_for_model("tiny")

    def members() -> bool:
        (model,) = api.get("/v1/muster/models")["models"]
        return len(model["replicas"]) == replicas

    wait_until(members, f"{replicas} replicas")
    return api


def asked(worker: Process) -> int:
    return worker.text().count("asked")


def holder(workers: Sequence[Process], before: Sequence[int]) -> Process:
    """The worker that has been asked since ``before``."""

    def find() -> list[Process]:
        return [
            worker
            for worker, count in zip(workers, before, strict=True)
            if worker.is_running() and asked(worker) > count
        ]

    found: list[Process] = wait_until(find, "somebody is asked")
    (worker,) = found
    return worker


def metric(api: Api, name: str, **labels: str) -> float:
    with urllib.request.urlopen(api.url + "/metrics", timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(name + "{") and all(each in line for each in wanted)
    )


def text_of(events: Sequence[str]) -> tuple[str, Any]:
    """The text of a chat's events, and its usage."""
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert not [chunk for chunk in chunks if "error" in chunk], chunks[-1]
    texts = [choice["delta"].get("content") or "" for c in chunks for choice in c["choices"]]
    return "".join(texts), chunks[-1]["usage"]


def test_a_stream_goes_on_without_gap_or_repeat_when_its_worker_is_killed(
    site: Site, model: Path
) -> None:
    workers = start_workers(site, model, 3)
    api = start_frontend(site, 3)
    before = [asked(worker) for worker in workers]
    options = {"include_usage": True}
    stream = api.stream("tiny", max_tokens=200, stream_options=options)
    events = [next(stream) for _ in range(20)]
    first = holder(workers, before)
    first.kill()
    events += [next(stream) for _ in range(20)]
    others = [worker for worker in workers if worker is not first]
    second = holder(others, [0, 0])
    second.kill()
    text, usage = text_of([*events, *stream])

    assert usage["completion_tokens"] == 200
    assert text == letters(usage["prompt_tokens"], 200)
    total = "dynamo_frontend_model_migration_total"
    assert metric(api, total, model="tiny", migration_type="ongoing_request") == 2
    count = "dynamo_frontend_model_migration_duration_seconds_count"
    assert metric(api, count, migration_type="ongoing_request", outcome="success") == 2
    log = api.process.text()
    assert log.count("request moved to another instance") == 2
    assert "from_instance" in log
    assert "to_instance" in log


def test_a_unary_answer_is_continued_too(site: Site, model: Path) -> None:
    workers = start_workers(site, model, 2)
    api = start_frontend(site, 2)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reply = pool.submit(api.chat, "tiny", max_tokens=150, logprobs=True)
        victim = holder(workers, [0, 0])
        wait_until(lambda: metric(api, "dynamo_frontend_output_tokens_total") > 10, "tokens")
        victim.kill()
        answer = reply.result(60)
    start = answer["usage"]["prompt_tokens"]
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == letters(start, 150)
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 150
    scores = [entry["logprob"] for entry in choice["logprobs"]["content"]]
    assert scores == [-float(start + k) for k in range(150)]
    assert asked(next(worker for worker in workers if worker is not victim)) == 1


def test_stop_strings_and_the_least_length_count_over_the_move(site: Site, model: Path) -> None:
    workers = start_workers(site, model, 2)
    api = start_frontend(site, 2)
    start = api.chat("tiny", max_tokens=1)["usage"]["prompt_tokens"]
    before = [asked(worker) for worker in workers]
    # The alphabet comes round every 26 tokens: only the one after the least length may end it.
    stop = letters(start + 150, 5)
    stream = api.stream("tiny", max_tokens=300, stop=[stop], min_tokens=154)
    events = [next(stream) for _ in range(40)]
    holder(workers, before).kill()
    events += stream
    chunks = [json.loads(event) for event in events[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == letters(start, 150)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_an_instance_that_hangs_up_before_the_first_token_is_replaced(
    site: Site, model: Path
) -> None:
    workers = start_workers(site, model, 2, delay_s=0.5)
    api = start_frontend(site, 2)
    stream = api.stream("tiny", max_tokens=3, stream_options={"include_usage": True})
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, stream)
        holder(workers, [0, 0]).kill()
        text, usage = text_of(rest.result(60))
    assert text == letters(usage["prompt_tokens"], 3)
    total = "dynamo_frontend_model_migration_total"
    assert metric(api, total, migration_type="new_request") == 1


def test_without_moves_the_client_gets_an_error_event(site: Site, model: Path) -> None:
    workers = start_workers(site, model, 2)
    api = start_frontend(site, 2, "--migration-limit", "0")
    stream = api.stream("tiny", max_tokens=300)
    events = [next(stream) for _ in range(10)]
    holder(workers, [0, 0]).kill()
    events += stream
    assert events[-1] == "[DONE]"
    assert "error" in json.loads(events[-2])
    assert "it may move 0 times after its first token" in api.process.text()


def test_several_answers_are_not_continued(site: Site, model: Path) -> None:
    workers = start_workers(site, model, 2)
    api = start_frontend(site, 2)
    stream = api.stream("tiny", max_tokens=300, n=2)
    next(stream)
    holder(workers, [0, 0]).kill()
    events = list(stream)
    assert "error" in json.loads(events[-2])
    assert "a prompt carries one" in api.process.text()


def test_longer_answers_than_the_limit_are_not_continued(site: Site, model: Path) -> None:
    workers = start_workers(site, model, 2)
    api = start_frontend(site, 2, "--migration-max-seq-len", "80")
    stream = api.stream("tiny", max_tokens=300)
    events = [next(stream) for _ in range(90)]
    holder(workers, [0, 0]).kill()
    events += stream
    assert "error" in json.loads(events[-2])
    name = "dynamo_frontend_model_migration_max_seq_len_exceeded_total"
    assert metric(api, name, model="tiny") == 1


def test_a_worker_told_to_stop_hands_its_streams_on(site: Site, model: Path) -> None:
    workers = start_workers(site, model, 2)
    api = start_frontend(site, 2)
    stream = api.stream("tiny", max_tokens=200, stream_options={"include_usage": True})
    events = [next(stream) for _ in range(10)]
    holder(workers, [0, 0]).signal(signal.SIGTERM)
    text, usage = text_of([*events, *stream])
    assert text == letters(usage["prompt_tokens"], 200)


def test_with_nobody_left_the_client_gets_an_error(site: Site, model: Path) -> None:
    (worker,) = start_workers(site, model, 1)
    api = start_frontend(site, 1)
    stream = api.stream("tiny", max_tokens=300)
    events = [next(stream) for _ in range(10)]
    worker.kill()
    events += stream
    assert "error" in json.loads(events[-2])
    with pytest.raises(urllib.error.HTTPError) as caught:
        api.chat("tiny")
    with caught.value as refused:
        assert refused.code == 503
