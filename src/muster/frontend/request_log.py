"""One log line for each request that is not a probe, when it is over.

``DYN_LOG=info,muster.frontend.request_log=off`` turns them off; then a request costs nothing here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from types import TracebackType
from typing import Self

from muster.frontend.openai.job import Job
from muster.frontend.request_meter import RequestMeter
from muster.http.exchange import Exchange
from muster.log import current, facts

__all__ = ["GenerationDetails", "RequestLine", "log_refused"]

logger = logging.getLogger(__name__)

_PROBES = frozenset({"/live", "/health", "/metrics"})
_LEFT = 499
"""Status of a request whose client left before its answer was complete; nginx's number."""
_LONGEST_PATH = 200


class GenerationDetails:
    """What a generating route adds to its request's line.

    Attributes:
        job: The request, once it has been prepared.
    """

    __slots__ = ("_meter", "_model", "job")

    def __init__(self, model: str, meter: RequestMeter) -> None:
        self._model = model
        self._meter = meter
        self.job: Job | None = None

    def __call__(self) -> dict[str, object]:
        """The model, and what is known of times, tokens and instances; several by comma."""
        found: dict[str, object] = {"model": self._model}
        job = self.job
        if job is None:
            return found
        ttft = self._meter.ttft
        if ttft is not None:
            found["ttft_ms"] = round(ttft * 1e3, 1)
        found["input_tokens"] = job.prompt_tokens
        found["output_tokens"] = job.completion_tokens
        journeys = [run.journey for run in job.runs if run.journey is not None]
        if journeys:
            ids = [each.instance_id for each in journeys if each.instance_id is not None]
            found["instance"] = ",".join(f"{each:x}" for each in dict.fromkeys(ids))
            found["attempts"] = sum(each.attempts for each in journeys)
        return found


class RequestLine:
    """Logs a request when its handling ends; a context manager around that.

    Args:
        exchange: The request.
    """

    __slots__ = ("_arrived", "_exchange")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._arrived = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the line."""
        exchange = self._exchange
        if exchange.path not in _PROBES and logger.isEnabledFor(logging.INFO):
            self._log(error)
        exchange.details = None  # they know the exchange: nobody else would break the circle

    def _log(self, error: BaseException | None) -> None:
        exchange = self._exchange
        status, code = exchange.status, exchange.error
        if error is not None and not exchange.finished:
            if isinstance(error, asyncio.CancelledError):
                status, code = _LEFT, "client_disconnected"
            elif not exchange.started:
                status, code = 500, "internal_error"
        elif not exchange.finished:
            status, code = _LEFT, code or "client_disconnected"
        _write(exchange, status, code, time.monotonic() - self._arrived)


def log_refused(exchange: Exchange) -> None:
    """Write the line of what never became a request: malformed, too large, too slow."""
    if logger.isEnabledFor(logging.INFO):
        _write(exchange, exchange.status, exchange.error, None)


def _write(exchange: Exchange, status: int, code: str, seconds: float | None) -> None:
    values: dict[str, object] = {
        "method": exchange.method,
        "path": exchange.path[:_LONGEST_PATH],
        "status": status,
    }
    if seconds is not None:
        values["ms"] = round(seconds * 1e3, 1)
    if exchange.details is not None:
        values |= exchange.details()
    if exchange.caller:
        values["caller"] = exchange.caller
    if exchange.client:
        values["client"] = exchange.client
    if code:
        values["error"] = code
    if exchange.request_id != current().request_id:
        values["x_request_id"] = exchange.request_id
    logger.info("request", extra=facts(**values))
