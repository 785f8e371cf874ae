"""The routes of the other APIs, and the shape of their errors."""

from __future__ import annotations

from muster.frontend.anthropic.errors import answers_in_this_shape, error_body
from muster.frontend.anthropic.translate import Messages
from muster.frontend.api_error import ApiError
from muster.frontend.long_work import LongWork
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.openai.parameters import IgnoredParameters
from muster.frontend.openai.stream_rules import StreamRules
from muster.frontend.responses.translate import Responses
from muster.frontend.routes import RouteTable
from muster.frontend.surface.route import Surface, SurfaceRoute
from muster.frontend.tokens.routes import TokenRoutes
from muster.http.exchange import Exchange
from muster.http.handler import Handler

__all__ = ["add_surfaces", "error_for"]


def add_surfaces(
    routes: RouteTable,
    table: ModelTable,
    metrics: FrontendMetrics,
    ignored: IgnoredParameters,
    work: LongWork,
    *,
    begin_traces: bool,
    strict_parameters: bool,
    streams: StreamRules | None = None,
) -> None:
    """Add the routes of the Responses and Messages APIs, and those that only count tokens.

    Args:
        routes: Where to add them.
        table: The models.
        metrics: Where requests are counted.
        ignored: Where ignored fields are counted.
        work: See ``GenerationRoute``.
        begin_traces: See ``RequestScope``.
        strict_parameters: Refuse fields that nobody knows.
        streams: How streams are sent.
    """

    def route(surface: Surface) -> SurfaceRoute:
        return SurfaceRoute(
            surface,
            table,
            metrics,
            ignored,
            work,
            begin_traces=begin_traces,
            strict_parameters=strict_parameters,
            streams=streams,
        )

    responses, messages = route(Responses()), route(Messages())
    tokens = TokenRoutes(table, work)
    routes.add("POST", "/v1/responses", responses.handle)
    routes.add("POST", "/v1/responses/input_tokens", tokens.count_response)
    routes.add("POST", "/v1/messages", _with_request_id(messages.handle))
    routes.add("POST", "/v1/messages/count_tokens", _with_request_id(tokens.count_message))
    routes.add("POST", "/tokenize", tokens.tokenize)
    routes.add("POST", "/detokenize", tokens.detokenize)


def _with_request_id(handler: Handler) -> Handler:
    """The handler, with the request's id in the header that Anthropic's clients read, too."""

    async def handle(exchange: Exchange) -> None:
        exchange.fields += f"request-id: {exchange.request_id}\r\n"
        await handler(exchange)

    return handle


def error_for(exchange: Exchange, error: ApiError) -> bytes:
    """The body of an error in the shape of the API whose path was asked for."""
    if answers_in_this_shape(exchange.path):
        return error_body(error, exchange.request_id)
    return error.body()
