"""``/busy_threshold``, with the bodies Dynamo 1.6.1 answers, and a model that is busy by it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from muster.config.settings import GuardSettings
from muster.frontend.guard.admission import Admission
from muster.frontend.guard.busy import Capacity
from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel
from muster.testing.tiny_model import write_tiny_model

NAMES = (
    "active_decode_blocks_threshold",
    "active_prefill_tokens_threshold",
    "active_prefill_tokens_threshold_frac",
)


@pytest.fixture
def model(tmp_path: Path) -> ScriptedModel:
    return ScriptedModel(write_tiny_model(tmp_path))


def exchange(model: ScriptedModel, *bodies: str | None) -> list[tuple[int, Any]]:
    """The answers to these bodies, one after the other; ``None`` asks with GET."""

    async def test() -> list[tuple[int, Any]]:
        admission = Admission(GuardSettings())
        send = admission.around("tiny", model.served.generate, lambda: {1: Capacity()})
        model.served = dataclasses.replace(model.served, generate=send)
        async with (
            running_frontend(model, admission=admission) as frontend,
            aiohttp.ClientSession() as session,
        ):
            seen = []
            for body in bodies:
                method = "GET" if body is None else "POST"
                url = f"http://127.0.0.1:{frontend.port}/busy_threshold"
                headers = {"content-type": "application/json"}
                async with session.request(method, url, data=body, headers=headers) as answer:
                    seen.append((answer.status, await answer.json()))
            return seen

    return run(test())


def settings(model: str, *values: float | None) -> dict[str, Any]:
    return {"model": model, **dict(zip(NAMES, values, strict=True))}


def test_what_is_set_is_echoed_and_null_unsets_one(model: ScriptedModel) -> None:
    first = {"model": "tiny", NAMES[0]: 0.5, NAMES[1]: 1000}
    then = {"model": "tiny", NAMES[0]: None, NAMES[2]: 0.8}
    last = {"model": "tiny", NAMES[1]: None, NAMES[2]: None}
    bodies = (None, json.dumps(first), json.dumps(then), '{"model":"tiny"}', None)
    assert exchange(model, *bodies, json.dumps(last), None) == [
        (200, {"thresholds": []}),
        (200, settings("tiny", 0.5, 1000, None)),
        (200, settings("tiny", None, 1000, 0.8)),
        (200, settings("tiny", None, 1000, 0.8)),
        (200, {"thresholds": [settings("tiny", None, 1000, 0.8)]}),
        (200, settings("tiny", None, None, None)),
        (200, {"thresholds": []}),
    ]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (
            '{"model":"zzz","active_decode_blocks_threshold":0.5}',
            404,
            "Model 'zzz' not found. Thresholds can only be set for discovered models.",
        ),
        (
            '{"model":"tiny","active_decode_blocks_threshold":1.5}',
            400,
            "active_decode_blocks_threshold must be between 0.0 and 1.0, got 1.5",
        ),
        (
            '{"model":"tiny","active_prefill_tokens_threshold_frac":-1}',
            400,
            "must be a finite value greater than or equal to 0.0, got -1",
        ),
        ('{"model":"tiny","active_prefill_tokens_threshold":-1}', 422, "Failed to deserialize"),
        ('{"active_decode_blocks_threshold":0.5}', 422, "missing required field `model`"),
        ("x", 400, "Failed to parse the request body as JSON"),
    ],
)
def test_what_is_wrong_has_dynamos_status_and_words(
    model: ScriptedModel, body: str, status: int, error: str
) -> None:
    [(seen, answer)] = exchange(model, body)
    assert seen == status
    assert error in answer["error"]


def test_a_question_about_a_model_nobody_knows_has_an_answer(model: ScriptedModel) -> None:
    assert exchange(model, '{"model":"zzz"}') == [(200, settings("zzz", None, None, None))]


def test_a_request_to_a_busy_model_gets_dynamos_529(model: ScriptedModel) -> None:
    async def test() -> tuple[int, Any, str | None]:
        admission = Admission(GuardSettings(active_prefill_tokens=0))
        send = admission.around("tiny", model.served.generate, lambda: {1: Capacity()})
        model.served = dataclasses.replace(model.served, generate=send)
        chat = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
        async with (
            running_frontend(model, admission=admission) as frontend,
            aiohttp.ClientSession() as session,
        ):
            url = f"http://127.0.0.1:{frontend.port}/v1/chat/completions"
            async with session.post(url, json={**chat, "stream": True}):
                await model.next_stream()
                async with session.post(url, json=chat) as answer:
                    return answer.status, await answer.json(), answer.headers.get("retry-after")

    status, body, retry_after = run(test())
    assert status == 529
    assert "busy" in body["error"]["message"]
    assert retry_after is not None
