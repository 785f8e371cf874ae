"""A route whose requests are answered by the chat path."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from muster.frontend.api_error import ApiError
from muster.frontend.long_work import LongWork
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.openai.chat import ChatApi
from muster.frontend.openai.frames import ChatFrames
from muster.frontend.openai.job import Job
from muster.frontend.openai.parameters import IgnoredParameters, Parameters
from muster.frontend.openai.requests import ChatRequest
from muster.frontend.openai.route import GenerationRoute, require_json
from muster.frontend.openai.stream_rules import StreamRules
from muster.frontend.surface.exchange import ChatExchange, Opening, Translation
from muster.http.exchange import Exchange

__all__ = ["Surface", "SurfaceRoute"]


class Surface(Protocol):
    """One API over the chat path. Pure.

    Attributes:
        endpoint: Its name in metrics.
        decoder: Reads its requests; its type's fields are those the API knows.
    """

    endpoint: str
    decoder: msgspec.json.Decoder[Any]

    def read(self, body: bytes) -> tuple[bytes, Translation]:
        """A request's body as a chat request's, and the translation of its reply.

        Raises:
            ApiError: 400 for what is malformed or cannot be said in a chat request.
        """
        ...

    def rename(self, error: ApiError) -> ApiError:
        """An error of the chat path in the terms of this API's fields."""
        ...


class SurfaceApi(ChatApi):
    """The chat API, which lets the exchange know of a reply before it is sent.

    Args:
        endpoint: Its name in metrics.
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self.endpoint = endpoint

    def frames(self, job: Job) -> ChatFrames:
        """The builder of the stream's events."""
        _prepare(job)
        return super().frames(job)

    def reply(self, job: Job) -> bytes:
        """The whole reply."""
        _prepare(job)
        return super().reply(job)


class SurfaceRoute:
    """Handles the requests of one surface.

    Args:
        surface: The surface.
        table: The models.
        metrics: Where requests are counted.
        ignored: Where ignored fields are counted.
        begin_traces: See ``RequestScope``.
        strict_parameters: Refuse fields that nobody knows.
        streams: How streams are sent.
    """

    def __init__(
        self,
        surface: Surface,
        table: ModelTable,
        metrics: FrontendMetrics,
        ignored: IgnoredParameters,
        work: LongWork,
        *,
        begin_traces: bool = False,
        strict_parameters: bool = False,
        streams: StreamRules | None = None,
    ) -> None:
        name = surface.endpoint
        own = surface.decoder.type.__struct_fields__
        chat = ChatRequest.__struct_fields__
        self._surface = surface
        self._metrics = metrics
        self._parameters = Parameters(own, name, strict=strict_parameters, ignored=ignored)
        self._chat = GenerationRoute(
            SurfaceApi(name),
            table,
            metrics,
            work,
            begin_traces=begin_traces,
            # What the chat path cannot do, a translation does not make it do.
            parameters=Parameters(chat, name, strict=strict_parameters, ignored=ignored),
            streams=streams,
        )

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request.

        Raises:
            MusterError: What went wrong before anything was sent.
        """
        try:
            require_json(exchange)
            body, translation = self._surface.read(exchange.body)
            self._parameters.check(exchange.body)
        except ApiError as error:
            self._metrics.refused(self._surface.endpoint, error.error_type)
            raise
        asked = ChatExchange(exchange, body, translation)
        try:
            await self._chat.handle(asked)
        except ApiError as error:
            raise self._surface.rename(error) from error
        finally:
            exchange.tokens = asked.tokens
            exchange.error, exchange.details = asked.error, asked.details
            asked.details = None


def _prepare(job: Job) -> None:
    exchange = job.scope.exchange
    if isinstance(exchange, ChatExchange):
        opening = Opening(
            request_id=job.scope.context.id(),
            model=job.model.name,
            created=job.created,
            prompt_tokens=job.prompt_tokens,
        )
        exchange.prepared(opening, job.runs[0].choices[0])
