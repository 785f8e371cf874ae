"""How requests that fail are answered: in the shape of the API that was asked, and logged."""

from __future__ import annotations

import logging

from muster.frontend.api_error import ApiError
from muster.frontend.request_id import response_id
from muster.frontend.request_log import log_refused
from muster.frontend.surface.routes import error_for
from muster.http.exchange import Exchange
from muster.log import facts

__all__ = ["answer_error", "refuse"]

logger = logging.getLogger(__name__)

_LONGEST_NAME = 100
"""Of a model that is not served, in a log line."""
_REFUSALS = {
    400: "bad_request",
    401: "invalid_api_key",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    431: "headers_too_large",
    500: "internal_error",
    505: "http_version_not_supported",
}


def answer_error(exchange: Exchange, error: ApiError) -> None:
    """Answer a request by its error; one that is the service's fault is logged as a warning."""
    if error.status >= 500:
        logger.warning(
            "request failed",
            extra=facts(
                x_request_id=exchange.request_id,
                path=exchange.path,
                status=error.status,
                code=error.slug,
                error=error.message,
            ),
        )
    if error.model and exchange.details is None:
        exchange.details = lambda: {"model": error.model[:_LONGEST_NAME]}
    exchange.error = error.slug or ""
    exchange.respond(error.status, error_for(exchange, error), headers=error.headers)


def refuse(exchange: Exchange, status: int, message: str) -> None:
    """Answer what never became a request: its bytes, its size or its pace were wrong.

    Args:
        exchange: As far as it was read; it gets an id if it has none.
        status: Of the answer. 500 is for a request whose handler broke, which has its line in the
            log already; the others get theirs here.
        message: For the client.
    """
    exchange.request_id = exchange.request_id or response_id(exchange)
    answer_error(exchange, ApiError(status, message, slug=_REFUSALS.get(status)))
    if status != 500:
        log_refused(exchange)
