"""Every route, described once: the table the document is made from."""

from __future__ import annotations

from typing import Any

import msgspec

from muster.frontend.anthropic.requests import CountRequest, MessagesRequest
from muster.frontend.embeddings.requests import EmbeddingsReply, EmbeddingsRequest
from muster.frontend.health import HealthReply
from muster.frontend.openai.models import Model, ModelList, Readiness
from muster.frontend.openai.reply import ChatReply, CompletionReply
from muster.frontend.openai.requests import ChatRequest, CompletionRequest
from muster.frontend.report import FleetReport
from muster.frontend.responses.objects import Response
from muster.frontend.responses.requests import ResponsesRequest
from muster.frontend.tokens.requests import (
    DetokenizeReply,
    DetokenizeRequest,
    TokenizeReply,
    TokenizeRequest,
)

__all__ = ["OPERATIONS", "Operation", "operations_of"]

JSON, HTML, SSE, TEXT = "application/json", "text/html", "text/event-stream", "text/plain"

_ANY = (400, 401, 403, 405, 408, 413, 429, 431, 500, 503)
"""What any route may answer: keys, limits, malformed or slow requests, shutting down."""
_BODY = (404, 415, 501)
"""What a route with a body may answer besides: 404 if it names a model nobody knows."""
_ENGINE = (499, 502, 504, 529)
"""What an engine's failure may become."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation.

    Attributes:
        path: As OpenAPI writes it.
        summary: One line.
        tag: Its group on the page.
        request: The type of the body; ``None`` if it takes none.
        reply: The type of the answer; ``None`` if it is not described.
        media: Content types of the answer.
        statuses: All statuses but those any route may answer.
        open_ended: Whether an engine may choose further statuses of errors.
    """

    path: str
    summary: str
    tag: str
    request: Any = None
    reply: Any = None
    media: tuple[str, ...] = (JSON,)
    statuses: tuple[int, ...] = (200,)
    open_ended: bool = False

    def all_statuses(self) -> tuple[int, ...]:
        """All statuses, in order."""
        return tuple(sorted({*self.statuses, *_ANY}))


def _generating(path: str, summary: str, tag: str, request: Any, reply: Any) -> Operation:
    return Operation(
        path=path,
        summary=summary,
        tag=tag,
        request=request,
        reply=reply,
        media=(JSON, SSE),
        statuses=(200, *_BODY, *_ENGINE),
        open_ended=True,
    )


def _counting(path: str, summary: str, tag: str, request: Any, reply: Any = None) -> Operation:
    return Operation(
        path=path,
        summary=summary,
        tag=tag,
        request=request,
        reply=reply,
        statuses=(200, *_BODY),
    )


def _reading(path: str, summary: str, tag: str, **more: Any) -> Operation:
    return Operation(path=path, summary=summary, tag=tag, **more)


OPERATIONS: dict[tuple[str, str], tuple[Operation, ...]] = {
    ("POST", "/v1/chat/completions"): (
        _generating(
            "/v1/chat/completions", "Answer a conversation", "OpenAI", ChatRequest, ChatReply
        ),
    ),
    ("POST", "/v1/completions"): (
        _generating(
            "/v1/completions", "Continue a text", "OpenAI", CompletionRequest, CompletionReply
        ),
    ),
    ("POST", "/v1/embeddings"): (
        Operation(
            path="/v1/embeddings",
            summary="Embed texts",
            tag="OpenAI",
            request=EmbeddingsRequest,
            reply=EmbeddingsReply,
            statuses=(200, *_BODY, *_ENGINE),
            open_ended=True,
        ),
    ),
    ("POST", "/v1/responses"): (
        _generating(
            "/v1/responses", "Answer; nothing is stored", "OpenAI", ResponsesRequest, Response
        ),
    ),
    ("POST", "/v1/responses/input_tokens"): (
        _counting(
            "/v1/responses/input_tokens",
            "Count the tokens of a prompt",
            "OpenAI",
            ResponsesRequest,
        ),
    ),
    ("POST", "/v1/messages"): (
        _generating("/v1/messages", "Answer a conversation", "Anthropic", MessagesRequest, None),
    ),
    ("POST", "/v1/messages/count_tokens"): (
        _counting(
            "/v1/messages/count_tokens", "Count the tokens of a prompt", "Anthropic", CountRequest
        ),
    ),
    ("POST", "/tokenize"): (
        _counting("/tokenize", "Ids of a text", "Tokens", TokenizeRequest, TokenizeReply),
    ),
    ("POST", "/detokenize"): (
        _counting("/detokenize", "Text of ids", "Tokens", DetokenizeRequest, DetokenizeReply),
    ),
    ("GET", "/v1/models"): (
        _reading("/v1/models", "All models, aliases and adapters", "Models", reply=ModelList),
    ),
    ("GET", "/v1/models/*"): (
        _reading("/v1/models/{model}", "One model", "Models", reply=Model, statuses=(200, 404)),
        _reading(
            "/v1/models/{model}/ready",
            "Whether a model answers requests",
            "Models",
            reply=Readiness,
            statuses=(200, 404, 503),
        ),
    ),
    ("GET", "/v1/muster/models"): (
        _reading(
            "/v1/muster/models", "What has become of every replica", "Models", reply=FleetReport
        ),
    ),
    ("GET", "/v1/muster/live"): (
        _reading("/v1/muster/live", "The fleet as it changes", "Watching", media=(SSE,)),
    ),
    ("GET", "/health"): (
        _reading("/health", "Whether models are served", "Watching", reply=HealthReply),
    ),
    ("GET", "/live"): (_reading("/live", "Whether requests are taken", "Watching"),),
    ("GET", "/metrics"): (
        _reading("/metrics", "Metrics for Prometheus", "Watching", media=(TEXT,)),
    ),
    ("GET", "/dashboard"): (_reading("/dashboard", "The dashboard", "Watching", media=(HTML,)),),
    ("GET", "/dashboard/"): (
        _reading(
            "/dashboard/", "The dashboard", "Watching", media=(HTML,), statuses=(200, 301, 307, 308)
        ),
    ),
    ("GET", "/dashboard/*"): (
        _reading(
            "/dashboard/{part}", "A part of it", "Watching", media=("*/*",), statuses=(200, 404)
        ),
    ),
    ("GET", "/busy_threshold"): (
        _reading("/busy_threshold", "When workers count as busy", "Administration"),
    ),
    ("POST", "/busy_threshold"): (
        _reading(
            "/busy_threshold",
            "Change when workers count as busy",
            "Administration",
            request=dict[str, Any],
            statuses=(200, 422, *_BODY),
        ),
    ),
    ("GET", "/version"): (_reading("/version", "The version", "About"),),
    ("GET", "/openapi.json"): (_reading("/openapi.json", "This document", "About"),),
    ("GET", "/docs"): (_reading("/docs", "This document as a page", "About", media=(HTML,)),),
    ("GET", "/docs/"): (_reading("/docs/", "This document as a page", "About", media=(HTML,)),),
}
"""Operations by method and path, as routes are registered."""


def operations_of(method: str, path: str) -> tuple[Operation, ...]:
    """The operations of a registered route; one nobody has described yet is still listed."""
    found = OPERATIONS.get((method, path))
    if found is not None:
        return found
    plain = path.removesuffix("*") + "{rest}" if path.endswith("*") else path
    return (_reading(plain, plain, "Others", media=("*/*",), statuses=(200, 204, *_BODY)),)
