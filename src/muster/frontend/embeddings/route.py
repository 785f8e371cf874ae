"""``POST /v1/embeddings``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, cast

import msgspec

from muster.errors import EngineError, MusterError
from muster.frontend.affinity import named_session
from muster.frontend.api_error import ApiError
from muster.frontend.embeddings.answer import LARGE_ANSWER, render, size_of, vectors_of
from muster.frontend.embeddings.details import EmbeddingDetails
from muster.frontend.embeddings.prepare import WorkerRequest, for_text, for_tokens
from muster.frontend.embeddings.requests import EmbeddingsRequest, check, inputs_of
from muster.frontend.engine_stream import ResponseStream
from muster.frontend.group_route import INSTANCE_KEY
from muster.frontend.long_work import LongWork
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.openai.parameters import Parameters
from muster.frontend.openai.requests import GenerationRequest, decode
from muster.frontend.openai.route import LONG_BODY_BYTES, require_json
from muster.frontend.openai.steering import steer
from muster.frontend.request_meter import RequestMeter
from muster.frontend.request_scope import RequestScope
from muster.frontend.request_trace import TRACE_HEADER, describe_request, wants_trace
from muster.frontend.served_model import ServedModel
from muster.http.exchange import Exchange
from muster.llm.embedding import EmbeddingOutput, EmbeddingUsage
from muster.llm.protocol import EngineRequest
from muster.metrics import Histogram

__all__ = ["ENDPOINT", "EmbeddingsRoute"]

ENDPOINT = "embeddings"
"""Its name in metrics."""

_SETTLE_S = 1.0
"""How long an engine that has given all vectors may take to end its stream."""

_decoder = msgspec.json.Decoder(EmbeddingsRequest)

_SAYS_NOTHING = GenerationRequest(model="")
"""Stands where headers alone say which way a request goes."""


class EmbeddingsRoute:
    """Handles requests for embeddings.

    A request is one request to a worker, whatever the number of its inputs. It is worth nothing
    before it is whole, so if its instance is lost another one gets it.

    Args:
        table: The models.
        metrics: Where requests are counted.
        work: Tokenizes long requests and renders large answers.
        parameters: What becomes of fields nothing reads.
        latency: How long answers took, by model.
        begin_traces: See ``RequestScope``.
        add_special_tokens: Whether texts get the tokens that begin and end them, where a request
            does not say.
    """

    def __init__(
        self,
        table: ModelTable,
        metrics: FrontendMetrics,
        work: LongWork,
        parameters: Parameters,
        latency: Histogram,
        *,
        begin_traces: bool = False,
        add_special_tokens: bool = True,
    ) -> None:
        self._table = table
        self._metrics = metrics
        self._work = work
        self._parameters = parameters
        self._latency = latency
        self._begin_traces = begin_traces
        self._add_special_tokens = add_special_tokens

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request.

        Raises:
            MusterError: What went wrong; nothing has been sent.
        """
        with RequestScope(exchange, begin_trace=self._begin_traces) as scope:
            try:
                request, model = self._read(exchange)
            except ApiError as error:
                self._metrics.refused(ENDPOINT, error.error_type)
                raise
            with self._metrics.start(model.name, ENDPOINT, stream=False) as meter:
                exchange.details = details = EmbeddingDetails(model.name)
                asked = await self._prepare(scope, request, model)
                details.input_tokens = len(asked.token_ids)
                await self._answer(scope, request, model, asked, meter, details)

    def _read(self, exchange: Exchange) -> tuple[EmbeddingsRequest, ServedModel]:
        require_json(exchange)
        self._parameters.check(exchange.body)
        request = decode(_decoder, exchange.body)
        check(request)
        model = self._table.get(request.model, named_session(exchange.headers))
        if not model.embeddings:
            served = ", ".join(model.surfaces) or "nothing"
            raise ApiError(
                400,
                f"The model `{model.name}` does not serve {ENDPOINT}; it serves {served}",
                param="model",
                slug="unsupported_operation",
            )
        return request, model

    async def _prepare(
        self, scope: RequestScope, request: EmbeddingsRequest, model: ServedModel
    ) -> WorkerRequest:
        exchange = scope.exchange
        place: dict[str, Any] = {}
        steering = steer(_SAYS_NOTHING, exchange.headers, nvext=False)
        if steering is not None:
            scope.context.metadata.update(steering.metadata)
            if INSTANCE_KEY in steering.routing:
                place["routing"] = {INSTANCE_KEY: steering.routing[INSTANCE_KEY]}
        session = named_session(exchange.headers)
        if session:
            place["agent_context"] = {"session_id": session}
        inputs = inputs_of(request)
        if model.takes_text:
            return for_text(request, model, **place)
        place["add_special_tokens"] = self._add_special_tokens
        if len(exchange.body) > LONG_BODY_BYTES:
            return await self._work.run(for_tokens, request, inputs, model, **place)
        return for_tokens(request, inputs, model, **place)

    async def _answer(
        self,
        scope: RequestScope,
        request: EmbeddingsRequest,
        model: ServedModel,
        asked: WorkerRequest,
        meter: RequestMeter,
        details: EmbeddingDetails,
    ) -> None:
        exchange, counted = scope.exchange, len(asked.token_ids)
        # What routes looks only at what both kinds of requests have.
        generic = cast("EngineRequest", asked)
        stream = cast(
            "ResponseStream[EmbeddingOutput]", await model.generate(generic, context=scope.context)
        )
        try:
            details.journey = stream.journey
            meter.sent(None)  # as at the peer: the histograms of tokens are of generation
            count = len(inputs_of(request))
            outputs, ended = await _collect(stream, count)
            tokens = sum([each.counted_tokens for each in outputs]) or counted
            exchange.tokens = details.input_tokens = tokens
            vectors = vectors_of(outputs, count)
            usage = EmbeddingUsage(prompt_tokens=tokens, total_tokens=tokens)
            given = (request, model.name, vectors, usage)
            if size_of(vectors) > LARGE_ANSWER:
                body = await self._work.run(render, *given)
            else:
                body = render(*given)
            exchange.respond(200, body, headers=_trace(scope, stream))
            meter.finish(generated=False)
            self._latency.labels(model.name).observe(time.monotonic() - scope.arrived)
            if not ended:
                await _settle(stream)
        finally:
            stream.kill()


def _trace(scope: RequestScope, stream: ResponseStream[EmbeddingOutput]) -> dict[str, str] | None:
    if not wants_trace(scope.exchange):
        return None
    now = time.monotonic()
    return {TRACE_HEADER: describe_request([stream.journey], arrived=scope.arrived, now=now)}


async def _collect(
    stream: ResponseStream[EmbeddingOutput], count: int
) -> tuple[list[EmbeddingOutput], bool]:
    """The items until there are ``count`` vectors, and whether the stream has ended."""
    outputs: list[EmbeddingOutput] = []
    missing = count
    while missing > 0:
        items = await stream.batch()
        if not items:
            if not outputs:
                raise EngineError("the engine ended without an answer")
            return outputs, True
        outputs += items
        missing -= sum([len(each.vectors()) for each in items])
    return outputs, False


async def _settle(stream: ResponseStream[EmbeddingOutput]) -> None:
    """Read the end of a stream whose vectors are all there; how it ends is of no use to anyone."""
    with contextlib.suppress(MusterError, TimeoutError):
        async with asyncio.timeout(_SETTLE_S):
            while await stream.batch():
                pass
