"""Which part of the frontend answers which path of the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from muster.config.settings import HttpSettings
from muster.frontend.dashboard.assets import DashboardFiles
from muster.frontend.dashboard.live import Live
from muster.frontend.embeddings.latency import embedding_latency
from muster.frontend.embeddings.requests import EmbeddingsRequest
from muster.frontend.embeddings.route import ENDPOINT, EmbeddingsRoute
from muster.frontend.guard.admission import Admission
from muster.frontend.guard.busy_routes import BusyRoutes
from muster.frontend.health import HealthRoutes
from muster.frontend.long_work import LongWork
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.openai.models import ModelRoutes
from muster.frontend.openai.parameters import IgnoredParameters, Parameters
from muster.frontend.openai.reply import ReasoningField
from muster.frontend.openai.routes import openai_routes
from muster.frontend.openai.stream_rules import StreamRules
from muster.frontend.openapi.about import AboutRoutes
from muster.frontend.processes.siblings import Siblings
from muster.frontend.routes import RouteTable
from muster.frontend.surface.routes import add_surfaces
from muster.http.exchange import Exchange
from muster.http.handler import Handler

__all__ = ["service_routes"]


def service_routes(
    settings: HttpSettings,
    table: ModelTable,
    metrics: FrontendMetrics,
    registry: CollectorRegistry,
    work: LongWork,
    *,
    strict_parameters: bool,
    begin_traces: bool,
    health: HealthRoutes,
    live: Live,
    admission: Admission,
    shows: Callable[[str], bool],
    siblings: Siblings | None = None,
) -> RouteTable:
    """Every route of the service.

    Args:
        settings: How requests are read and streams are sent.
        table: The models.
        metrics: Where requests are counted.
        registry: What ``/metrics`` shows; what routes count themselves is added to it.
        work: Works on what is long.
        strict_parameters: Refuse fields that nobody knows.
        begin_traces: See ``RequestScope``.
        health: Answers probes.
        live: Feeds the dashboard.
        admission: What ``/busy_threshold`` changes.
        shows: Whether the service's own port answers a path, for ``/openapi.json``.
        siblings: The other processes, where several answer as one.
    """
    routes = RouteTable()
    ignored = IgnoredParameters()
    registry.register(ignored)
    streams = StreamRules.of(settings)
    chat, completions = openai_routes(
        table,
        metrics,
        ignored,
        work,
        begin_traces=begin_traces,
        strict_parameters=strict_parameters,
        streams=streams,
        nvext=not settings.disable_nvext,
        reasoning_field=cast("ReasoningField", settings.reasoning_field),
    )
    routes.add("POST", "/v1/chat/completions", chat.handle)
    routes.add("POST", "/v1/completions", completions.handle)
    add_surfaces(
        routes,
        table,
        metrics,
        ignored,
        work,
        begin_traces=begin_traces,
        strict_parameters=strict_parameters,
        streams=streams,
    )
    embeddings = EmbeddingsRoute(
        table,
        metrics,
        work,
        Parameters(
            EmbeddingsRequest.__struct_fields__, ENDPOINT, strict=strict_parameters, ignored=ignored
        ),
        embedding_latency(registry),
        begin_traces=begin_traces,
        add_special_tokens=settings.embedding_special_tokens,
    )
    routes.add("POST", "/v1/embeddings", embeddings.handle)
    models = ModelRoutes(table)
    routes.add("GET", "/v1/models", models.list)
    routes.add("GET", "/v1/models/*", models.one)
    routes.add("GET", "/health", health.health)
    routes.add("GET", "/live", health.live)
    routes.add("GET", "/v1/muster/models", health.models)
    busy = BusyRoutes(admission, tell=siblings.tell_thresholds if siblings is not None else None)
    routes.add("GET", "/busy_threshold", busy.list)
    routes.add("POST", "/busy_threshold", busy.change)
    routes.add("GET", "/metrics", _metrics_page(registry, siblings))
    AboutRoutes(routes, shows).add()
    dashboard = DashboardFiles()
    routes.add("GET", "/v1/muster/live", live.handle)
    routes.add("GET", "/dashboard", dashboard.page)
    routes.add("GET", "/dashboard/", dashboard.redirect)
    routes.add("GET", "/dashboard/*", dashboard.part)
    return routes


def _metrics_page(registry: CollectorRegistry, siblings: Siblings | None) -> Handler:
    async def handle(exchange: Exchange) -> None:
        page = generate_latest(registry) if siblings is None else await siblings.page()
        exchange.respond(200, page, content_type=CONTENT_TYPE_LATEST)

    return handle
