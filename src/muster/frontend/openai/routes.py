"""The generating routes of the OpenAI API."""

from __future__ import annotations

from muster.frontend.long_work import LongWork
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.openai.chat import ChatApi
from muster.frontend.openai.completions import CompletionApi
from muster.frontend.openai.parameters import IgnoredParameters, Parameters
from muster.frontend.openai.reply import ReasoningField
from muster.frontend.openai.requests import ChatRequest, CompletionRequest
from muster.frontend.openai.route import GenerationRoute
from muster.frontend.openai.stream_rules import StreamRules

__all__ = ["openai_routes"]


def openai_routes(
    table: ModelTable,
    metrics: FrontendMetrics,
    ignored: IgnoredParameters,
    work: LongWork,
    *,
    begin_traces: bool,
    strict_parameters: bool,
    streams: StreamRules | None = None,
    nvext: bool = True,
    reasoning_field: ReasoningField = "reasoning_content",
) -> tuple[GenerationRoute[ChatRequest], GenerationRoute[CompletionRequest]]:
    """The routes of chats and of completions.

    Args:
        table: The models.
        metrics: Where requests are counted.
        ignored: Where ignored fields are counted.
        work: See ``GenerationRoute``.
        begin_traces: See ``RequestScope``.
        strict_parameters: Refuse fields that nobody knows.
        streams: How streams are sent.
        nvext: See ``GenerationRoute``.
        reasoning_field: See ``ChatApi``.
    """

    def known(request: type[ChatRequest | CompletionRequest], endpoint: str) -> Parameters:
        names = request.__struct_fields__
        return Parameters(names, endpoint, strict=strict_parameters, ignored=ignored)

    chat, completion = ChatApi(reasoning_field), CompletionApi()
    return (
        GenerationRoute(
            chat, table, metrics, work, begin_traces=begin_traces,
            parameters=known(ChatRequest, chat.endpoint), streams=streams, nvext=nvext,
        ),
        GenerationRoute(
            completion, table, metrics, work, begin_traces=begin_traces,
            parameters=known(CompletionRequest, completion.endpoint), streams=streams, nvext=nvext,
        ),
    )  # fmt: skip
