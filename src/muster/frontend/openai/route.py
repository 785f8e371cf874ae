"""A generating route: from an exchange to a prepared job, which ``respond`` then answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from muster.frontend.affinity import in_session, named_session
from muster.frontend.api_error import ApiError
from muster.frontend.choice import Choice
from muster.frontend.long_work import LongWork
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.openai.additions import additions_of
from muster.frontend.openai.echo import Echo, echo_of
from muster.frontend.openai.job import Api, Job
from muster.frontend.openai.nvext import Nvext
from muster.frontend.openai.parameters import Parameters
from muster.frontend.openai.requests import GenerationRequest, decode
from muster.frontend.openai.respond import answer
from muster.frontend.openai.steering import steer
from muster.frontend.openai.stream_rules import StreamRules
from muster.frontend.prompt_run import PromptRun
from muster.frontend.request_log import GenerationDetails
from muster.frontend.request_scope import RequestScope
from muster.frontend.served_model import ServedModel
from muster.frontend.text_offsets import TextOffsets
from muster.http.exchange import Exchange
from muster.llm.protocol import EngineRequest
from muster.llm.stops import StopChecker, StopRules

__all__ = ["LONG_BODY_BYTES", "GenerationRoute", "require_json"]

LONG_BODY_BYTES = 8 << 10
"""Requests with a longer body are rendered and tokenized in a thread. Below it, handing the work
over costs more than the work, and the loop is not held up noticeably (about 1 ms)."""

T = TypeVar("T", bound=GenerationRequest)


class GenerationRoute(Generic[T]):
    """Handles the requests of one API.

    Args:
        api: The API.
        table: The models.
        metrics: Where requests are counted.
        work: Renders and tokenizes long requests.
        begin_traces: See ``RequestScope``.
        parameters: What becomes of fields nothing reads; by default they are ignored.
        streams: How streams are sent.
        nvext: Whether ``nvext`` counts; without it only its ``cache_salt`` does.
    """

    def __init__(
        self,
        api: Api[T],
        table: ModelTable,
        metrics: FrontendMetrics,
        work: LongWork,
        *,
        begin_traces: bool = False,
        parameters: Parameters | None = None,
        streams: StreamRules | None = None,
        nvext: bool = True,
    ) -> None:
        self._api = api
        self._nvext = nvext
        self._table = table
        self._metrics = metrics
        self._work = work
        self._begin_traces = begin_traces
        self._parameters = parameters
        self._streams = streams or StreamRules()

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request.

        Raises:
            MusterError: What went wrong before anything was sent.
        """
        with RequestScope(exchange, begin_trace=self._begin_traces) as scope:
            await self._answer(exchange, scope)

    async def _answer(self, exchange: Exchange, scope: RequestScope) -> None:
        try:
            request, model = self._read(exchange)
        except ApiError as error:
            self._metrics.refused(self._api.endpoint, error.error_type)
            raise
        stream = bool(request.stream)
        with self._metrics.start(model.name, self._api.endpoint, stream=stream) as meter:
            exchange.details = details = GenerationDetails(model.name, meter)
            details.job = job = await self._prepare(exchange, request, model, scope)
            try:
                await answer(exchange, job, self._api, meter, self._streams)
            finally:
                if exchange.caller:
                    exchange.tokens = job.prompt_tokens + job.completion_tokens

    def _read(self, exchange: Exchange) -> tuple[T, ServedModel]:
        require_json(exchange)
        if self._parameters is not None:
            # First: who sends `prompt_embeds` is not to be told that `prompt` is missing.
            self._parameters.check(exchange.body)
        request = decode(self._api.decoder, exchange.body)
        if request.nvext is not None and not self._nvext:
            salt = Nvext(cache_salt=request.nvext.cache_salt)
            request = msgspec.structs.replace(request, nvext=salt)
        self._api.check(request)
        model = self._table.get(request.model, named_session(exchange.headers))
        if not self._api.serves(model):
            raise ApiError(
                400,
                f"The model `{model.name}` does not serve {self._api.endpoint}; it serves "
                f"{', '.join(model.surfaces) or 'nothing'}",
                param="model",
                slug="unsupported_operation",
            )
        return request, model

    async def _prepare(
        self, exchange: Exchange, request: T, model: ServedModel, scope: RequestScope
    ) -> Job:
        api = self._api
        if len(exchange.body) > LONG_BODY_BYTES:
            prompts = await self._work.run(api.tokenize, request, model)
        else:
            prompts = api.tokenize(request, model)
        scoring = api.scoring(request)
        echo = echo_of(request, model, prompts)
        requests = [api.engine_request(request, model, ids, scoring) for ids in prompts]
        steering = steer(request, exchange.headers, nvext=self._nvext)
        if steering is not None:
            requests = [steering.applied(each) for each in requests]
            scope.context.metadata.update(steering.metadata)
        session = named_session(exchange.headers)
        if session:
            requests = [in_session(each, session) for each in requests]
        runs = _runs(model, requests, request.n or 1, echo, keep_ids=_shows_ids(request))
        return Job(
            model=model,
            runs=runs,
            scoring=scoring,
            scope=scope,
            reply_id=api.id_prefix + scope.context.id(),
            created=int(time.time()),
            stream=bool(request.stream),
            options=request.stream_options,
            reading=api.reading(request, model, requests, keep=not request.stream),
            echo=echo,
            additions=additions_of(
                request,
                runs,
                request_id=scope.context.id(),
                formatted_prompt=api.formatted_prompt(request, model),
                arrived=scope.arrived,
            ),
        )


def require_json(exchange: Exchange) -> None:
    """Refuse a body that does not say it is JSON.

    Raises:
        ApiError: 415.
    """
    content_type = exchange.headers.get(b"content-type", b"")
    if content_type != b"application/json" and not _is_json(content_type):
        raise ApiError(
            415,
            "Expected a request with Content-Type application/json",
            slug="unsupported_media_type",
        )


def _shows_ids(request: GenerationRequest) -> bool:
    """Whether the reply has the ids of the answer's tokens."""
    if request.return_token_ids:
        return True
    extra = request.nvext.extra_fields if request.nvext is not None else None
    return "completion_token_ids" in (extra or ())


def _is_json(content_type: bytes) -> bool:
    media_type = content_type.partition(b";")[0].strip().lower()
    return media_type == b"application/json" or (
        media_type.startswith(b"application/") and media_type.endswith(b"+json")
    )


def _runs(
    model: ServedModel,
    requests: Sequence[EngineRequest],
    n: int,
    echo: Echo | None,
    *,
    keep_ids: bool,
) -> list[PromptRun]:
    """A run with ``n`` choices for each request; choices are numbered through."""
    runs = []
    for number, request in enumerate(requests):
        rules = StopRules.of(
            request.stop_conditions,
            eos_token_ids=request.eos_token_ids,
            include_stop_str_in_output=bool(request.sampling_options.include_stop_str_in_output),
        )
        start = len(echo.texts[number]) if echo is not None else 0
        choices = [
            _choice(model, request, rules, number * n + k, start, keep_ids=keep_ids)
            for k in range(n)
        ]
        runs.append(PromptRun(request, choices))
    return runs


def _choice(
    model: ServedModel,
    request: EngineRequest,
    rules: StopRules,
    index: int,
    start: int,
    *,
    keep_ids: bool,
) -> Choice:
    options = request.output_options
    preprocessor = model.preprocessor
    shown = options.skip_special_tokens is not False
    checker = StopChecker(rules, preprocessor.new_detokenizer(skip_special_tokens=shown))
    if options.logprobs is None:
        return Choice(index, checker, keep_ids=keep_ids)
    offsets = TextOffsets(
        preprocessor.new_detokenizer(skip_special_tokens=shown),
        preprocessor.tokenizer.token_bytes,
        start,
    )
    return Choice(index, checker, scored=True, offsets=offsets, keep_ids=keep_ids)
