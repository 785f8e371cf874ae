"""The frontend's answers on the wire: statuses, headers and one error shape everywhere."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from muster.testing.frontends import running_frontend
from muster.testing.loops import run
from muster.testing.scripted import ScriptedModel, ScriptedStream, outputs
from muster.testing.tiny_model import token_ids, write_tiny_model

JSON = {"content-type": "application/json"}
CHAT = json.dumps({"model": "org/tiny", "messages": [{"role": "user", "content": "hi"}]}).encode()
ROUTE = "/v1/chat/completions"


class Answer:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def ask(model_directory: Path) -> Any:
    """Send one request to a fresh frontend."""

    def send(method: str, path: str, *, body_limit_mb: int = 1, **options: Any) -> Answer:
        async def test() -> Answer:
            model = ScriptedModel(
                model_directory,
                "org/tiny",
                script=lambda _: ScriptedStream().push(*outputs(token_ids("ok"), "stop")).end(),
            )
            async with (
                running_frontend(model, body_limit_mb=body_limit_mb) as frontend,
                aiohttp.ClientSession() as session,
                session.request(
                    method, f"http://127.0.0.1:{frontend.port}{path}", **options
                ) as response,
            ):
                return Answer(response.status, response.headers.copy(), await response.read())

        return run(test())

    return send


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/", {}, 404, "route_not_found"),
        ("POST", "/v1/chat", {"data": CHAT}, 404, "route_not_found"),
        ("GET", "/v1/models/", {}, 404, "route_not_found"),
        ("GET", "/v1/models/unknown", {}, 404, "model_not_found"),
        ("GET", ROUTE, {}, 405, "method_not_allowed"),
        ("OPTIONS", ROUTE, {}, 405, "method_not_allowed"),
        ("POST", "/health", {"data": b""}, 405, "method_not_allowed"),
        (
            "POST",
            ROUTE,
            {"data": CHAT, "headers": {"content-type": "text/plain"}},
            415,
            "unsupported_media_type",
        ),
        ("POST", ROUTE, {"data": b"{", "headers": JSON}, 400, "invalid_json"),
        ("POST", ROUTE, {"data": b"", "headers": JSON}, 400, "invalid_json"),
        ("POST", ROUTE, {"data": b"[]", "headers": JSON}, 400, "invalid_value"),
        ("POST", ROUTE, {"data": b'{"model":"\xff"}', "headers": JSON}, 400, "invalid_json"),
        ("POST", ROUTE, {"data": b'{"model":"\\ud800"}', "headers": JSON}, 400, "invalid_json"),
        ("POST", ROUTE, {"data": b'{"x":' + b"[" * 100_000, "headers": JSON}, 400, "invalid_json"),
        ("POST", ROUTE, {"data": b'{"x":' * 100_000, "headers": JSON}, 400, "invalid_json"),
        ("POST", ROUTE, {"data": b"{}", "headers": JSON}, 400, "invalid_value"),
        (
            "POST",
            ROUTE,
            {"data": io.BytesIO(b"x" * (1 << 20 | 1)), "headers": JSON},
            413,
            "request_too_large",
        ),
    ],
)
def test_errors_have_one_shape(
    ask: Any, method: str, path: str, options: dict[str, Any], status: int, code: str
) -> None:
    answer = ask(method, path, **options)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert answer.error["type"] == "invalid_request_error"


def test_of_a_field_that_comes_twice_the_last_counts(ask: Any) -> None:
    body = CHAT.replace(b'{"model"', b'{"model": "unknown", "model"', 1)
    answer = ask("POST", ROUTE, data=body, headers=JSON)
    assert (answer.status, answer.json["model"]) == (200, "org/tiny")


@pytest.mark.parametrize(("path", "status"), [("/live", 200), ("/nowhere", 404), (ROUTE, 405)])
def test_head_is_answered_as_get_without_a_body(ask: Any, path: str, status: int) -> None:
    answer, got = ask("HEAD", path), ask("GET", path)
    assert (answer.status, got.status, answer.body) == (status, status, b"")
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize(("path", "allowed"), [("/live", "GET, HEAD"), ("/v1/completions", "POST")])
def test_options_says_what_is_allowed(ask: Any, path: str, allowed: str) -> None:
    answer = ask("OPTIONS", path)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)


def test_405_says_what_is_allowed(ask: Any) -> None:
    assert ask("GET", ROUTE).headers["allow"] == "POST"


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"]
)
def test_json_has_more_than_one_name(ask: Any, content_type: str) -> None:
    answer = ask("POST", ROUTE, data=CHAT, headers={"content-type": content_type})
    assert answer.json["choices"][0]["message"]["content"] == "ok"


def test_the_request_id_is_answered(ask: Any) -> None:
    answer = ask("POST", ROUTE, data=CHAT, headers=JSON | {"x-request-id": "mine"})
    assert answer.headers["x-request-id"] == "mine"
    assert answer.json["id"].startswith("chatcmpl-")
    answer = ask("POST", ROUTE, data=CHAT, headers=JSON)
    assert answer.json["id"] == f"chatcmpl-{answer.headers['x-request-id']}"


def test_the_fields_are_in_the_order_openai_writes_them(ask: Any) -> None:
    listing = ask("GET", "/v1/models").json
    assert [*listing] == ["object", "data"]
    assert [*listing["data"][0]] == ["id", "object", "created", "owned_by", "context_window"]
    chat = ["id", "object", "created", "model", "choices"]
    reply = ask("POST", ROUTE, data=CHAT, headers=JSON).json
    assert [*reply] == [*chat, "usage"]
    assert [*reply["choices"][0]["message"]] == ["role", "content", "refusal"]
    body = json.dumps({**json.loads(CHAT), "stream": True}).encode()
    answer = ask("POST", ROUTE, data=body, headers=JSON)
    first = json.loads(answer.body.split(b"\n\n")[0].removeprefix(b"data: "))
    assert [*first] == chat
    assert [*first["choices"][0]["delta"]] == ["role", "content"]


def test_completions_have_the_same_order_with_the_fingerprint_in_it(ask: Any) -> None:
    fields = ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    prompt = {"model": "org/tiny", "prompt": "x"}
    for stream in (False, True):
        body = json.dumps({**prompt, "stream": stream}).encode()
        answer = ask("POST", "/v1/completions", data=body, headers=JSON)
        first = answer.body.split(b"\n\n")[0].removeprefix(b"data: ")
        assert [*json.loads(first)] == fields


@pytest.mark.parametrize("name", ["org/tiny", "org%2Ftiny"])
def test_model_ids_may_have_slashes(ask: Any, name: str) -> None:
    assert ask("GET", f"/v1/models/{name}").json["id"] == "org/tiny"


def test_a_stream_has_the_headers_of_one(ask: Any) -> None:
    body = json.dumps({**json.loads(CHAT), "stream": True}).encode()
    answer = ask("POST", ROUTE, data=body, headers=JSON)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.body.endswith(b"\n\ndata: [DONE]\n\n")


def test_the_probes_and_the_metrics_answer(ask: Any) -> None:
    assert ask("GET", "/live").json["status"] == "live"
    health = ask("GET", "/health").json
    assert (health["status"], health["models"][0]["state"]) == ("healthy", "ready")
    assert b'dynamo_frontend_model_ready{model="org/tiny"} 1.0' in ask("GET", "/metrics").body
    assert ask("HEAD", "/live").body == b""
