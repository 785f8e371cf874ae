"""Whether and where spans are exported."""

from __future__ import annotations

import dataclasses
from typing import Any

from muster.config.checks import at_least
from muster.config.setting import setting

__all__ = ["TracingSettings"]


def _is_ratio(value: Any) -> str | None:
    return None if 0 <= value <= 1 else "must be between 0 and 1"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TracingSettings:
    """Whether and where spans are exported, by OTLP over HTTP.

    Headers, timeout, compression and certificates of the connection, further resource attributes
    and the sizes of batches are the OpenTelemetry SDK's own variables: ``OTEL_EXPORTER_OTLP_*``,
    ``OTEL_RESOURCE_ATTRIBUTES``, ``OTEL_BSP_*``.
    """

    enabled: bool = setting(
        False,
        env="OTEL_EXPORT_ENABLED",
        help="Export spans by OTLP over HTTP; needs the extra otel.",
    )
    endpoint: str = setting(
        "http://localhost:4318",
        env="OTEL_EXPORTER_OTLP_ENDPOINT",
        help="The collector; spans go to the path v1/traces under it.",
    )
    traces_endpoint: str | None = setting(
        None,
        env="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        help="Where spans go, with the whole path; by default as the collector's address says.",
    )
    protocol: str = setting(
        "http/protobuf",
        env="OTEL_EXPORTER_OTLP_PROTOCOL",
        help="Encoding of the export; http/protobuf is the one there is.",
    )
    service_name: str = setting(
        "muster",
        env="OTEL_SERVICE_NAME",
        help="The process's service.name in traces.",
    )
    sample_ratio: float = setting(
        1.0,
        env="OTEL_TRACES_SAMPLE_RATIO",
        help="Share of the traces begun here that is exported; for others their beginner decided.",
        check=_is_ratio,
    )
    flush_timeout_s: float = setting(
        5.0,
        env="MUSTER_OTEL_FLUSH_TIMEOUT_SECS",
        help="How long a shutdown waits for the last spans to be exported.",
        unit="s",
        check=at_least(0),
    )

    @property
    def url(self) -> str:
        """Where spans are posted to."""
        if self.traces_endpoint is not None:
            return self.traces_endpoint
        return f"{self.endpoint.rstrip('/')}/v1/traces"
