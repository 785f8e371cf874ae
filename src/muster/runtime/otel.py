"""Spans to a collector: OTLP over HTTP, by the OpenTelemetry SDK (the extra ``otel``).

The SDK's batch processor sends them from a thread of its own; a full queue drops the oldest. Ids
and sampling are Muster's, because trace ids travel with requests whether or not they are exported.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from muster._version import __version__
from muster.config.tracing import TracingSettings
from muster.errors import ConfigError
from muster.log import facts
from muster.trace import TraceContext
from muster.wire.span import SpanProxy, set_sink, sink

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ["OtelExporter", "configure_otel", "is_sampled"]

logger = logging.getLogger(__name__)

_HINT = "install the extra otel: pip install 'muster-serve[otel]', or unset OTEL_EXPORT_ENABLED"


def is_sampled(trace_id: str, ratio: float) -> bool:
    """Whether a trace is among the share ``ratio`` (0 to 1) of all.

    The same for the same id everywhere: its lower 64 bits are below that share of their range, as
    the SDKs' ``TraceIdRatioBased`` has it.
    """
    return int(trace_id[16:], 16) < round(ratio * (1 << 64))


class OtelExporter:
    """Sends spans to a collector from its construction until ``close``.

    Args:
        settings: Where to, and which share of the traces begun here.

    Raises:
        ConfigError: The extra is not installed, or the protocol is not one it has.
    """

    def __init__(self, settings: TracingSettings) -> None:
        if settings.protocol != "http/protobuf":
            raise ConfigError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL is {settings.protocol!r}, and spans are exported"
                " by http/protobuf only",
                hint="set it to http/protobuf and name the collector's HTTP port, usually 4318",
            )
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        except ImportError as error:
            raise ConfigError(
                f"OTEL_EXPORT_ENABLED is set, but {error.name or error} is not installed",
                hint=_HINT,
            ) from error
        self._settings = settings
        self._exporter = OTLPSpanExporter(endpoint=settings.url)
        self._processor = BatchSpanProcessor(self._exporter)
        self._resource = Resource.create({"service.name": settings.service_name})
        self._scope = InstrumentationScope("muster", __version__)

    def samples(self, trace_id: str) -> bool:
        """Whether a trace that begins here is sampled."""
        return is_sampled(trace_id, self._settings.sample_ratio)

    def export(self, span: SpanProxy) -> None:
        """Queue a span that has ended; one without a trace is left out."""
        if span.trace is not None:
            self._processor.on_end(self._readable(span, span.trace))

    def _readable(self, span: SpanProxy, trace: TraceContext) -> ReadableSpan:
        from opentelemetry.sdk.trace import Event, ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
        from opentelemetry.trace.status import Status, StatusCode

        number = int(trace.trace_id, 16)
        flags, state = TraceFlags(trace.flags), TraceState.from_header([trace.tracestate])
        parent = None
        if trace.parent_id is not None:
            remote = span.kind == "server"
            parent = SpanContext(number, int(trace.parent_id, 16), remote, flags, state)
        status = Status()
        if span.status is not None:
            code = StatusCode.OK if span.status == "ok" else StatusCode.ERROR
            status = Status(code, span.description if code is StatusCode.ERROR else None)
        attributes = span.attributes
        if span.request_id is not None:
            attributes = {"request_id": span.request_id} | attributes
        return ReadableSpan(
            span.name,
            SpanContext(number, int(trace.span_id, 16), False, flags, state),
            parent,
            self._resource,
            _attributes(attributes),
            [Event(e.name, _attributes(e.attributes), e.at_ns) for e in span.events],
            kind=SpanKind[span.kind.upper()],
            status=status,
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )

    async def close(self) -> None:
        """Take no more, and export what is queued, or as much of it as the time limit allows."""
        if sink() is self:
            set_sink(None)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish() -> None:
            if not done.done():
                done.set_result(None)

        def work() -> None:
            self._processor.shutdown()  # type: ignore[no-untyped-call] # the SDK has no types here
            with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
                loop.call_soon_threadsafe(finish)

        # A daemon, for a collector that does not answer must not keep the process from its end.
        threading.Thread(target=work, name="otel-shutdown", daemon=True).start()
        limit = self._settings.flush_timeout_s
        try:
            async with asyncio.timeout(limit):
                await done
        except TimeoutError:
            self._exporter.shutdown()  # type: ignore[no-untyped-call] # as above
            logger.warning(
                "the last spans could not be exported in time",
                extra=facts(url=self._settings.url, limit_s=limit),
            )


def configure_otel(settings: TracingSettings) -> OtelExporter | None:
    """Export the process's spans if the settings want it.

    Returns:
        What to ``close`` when the process ends, or ``None`` if nothing is exported.

    Raises:
        ConfigError: As for ``OtelExporter``.
    """
    if not settings.enabled:
        return None
    exporter = OtelExporter(settings)
    set_sink(exporter)
    logger.info(
        "exporting spans", extra=facts(url=settings.url, service_name=settings.service_name)
    )
    return exporter


def _attributes(values: dict[str, Any]) -> dict[str, Any]:
    """``values`` as OTLP can hold them: text, booleans, numbers, or lists of one of them."""
    return {str(key): _attribute(value) for key, value in values.items() if value is not None}


def _attribute(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and not -(1 << 63) <= value < 1 << 63:
        return str(value)
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        items = [_attribute(item) for item in value]
        return items if len({type(item) for item in items}) == 1 else [str(item) for item in items]
    return str(value)
