"""A worker process: one engine, one endpoint, one model, until it is told to stop."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from muster.config.settings import Settings
from muster.errors import MusterError
from muster.llm.embedding import Embedder
from muster.llm.protocol import Engine
from muster.log import facts
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.publish.hub_cache import find_model
from muster.model.publish.publication import Publication
from muster.model.publish.register import register_model
from muster.model.runtime_config import ModelRuntimeConfig
from muster.runtime import DistributedRuntime
from muster.runtime.shutdown import Phase
from muster.worker.embedding import PROBE, EmbeddingHandler

__all__ = ["WorkerOptions", "WorkerReport", "serve_worker"]

logger = logging.getLogger(__name__)


_ONE_TOKEN = {
    "model": "",
    "token_ids": [1],
    "stop_conditions": {"max_tokens": 1, "ignore_eos": True},
    "sampling_options": {},
    "output_options": {},
    "eos_token_ids": [],
    "annotations": [],
    "_HEALTH_CHECK": True,
}
"""What the canary asks an engine that takes tokens; the last key tells engines of Dynamo's kind."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """What a worker serves.

    Attributes:
        model_path: The model's directory, or its name in a hub's cache.
        model_name: What clients call it; ``model_path`` as given if left out.
        endpoint: ``namespace.component.endpoint``.
        model_type: The surfaces.
        kv_cache_block_size: Tokens in a block of the engine's cache.
        context_length: Overrides the model's own.
        custom_template: A chat template to use instead of the model's own.
        aliases: Further names for clients.
    """

    model_path: str
    model_name: str | None = None
    endpoint: str = "dynamo.backend.generate"
    model_type: ModelType = ModelType.Chat | ModelType.Completions
    kv_cache_block_size: int | None = None
    context_length: int | None = None
    custom_template: Path | None = None
    aliases: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """How a worker came up: what it published, and where its status server is, if it runs."""

    publication: Publication
    instance_id: int
    status_url: str | None


async def serve_worker(
    options: WorkerOptions,
    settings: Settings,
    load_engine: Callable[[Path], Engine | Embedder],
    on_ready: Callable[[WorkerReport], None],
) -> None:
    """Serve until SIGTERM or SIGINT, then end in order; told so before it serves, it ends quietly.

    Args:
        options: What to serve.
        settings: All settings.
        load_engine: Makes the engine from the model's directory; called in a thread. For the surface
            ``Embedding`` it is one that embeds.
        on_ready: Called once the model is registered.

    Raises:
        MusterError: What kept the worker from serving; nothing is left in the registry.
    """
    async with DistributedRuntime(settings=settings) as runtime:
        try:
            await _serve(runtime, options, load_engine, on_ready)
        except MusterError as error:
            if runtime.phase is Phase.RUNNING:
                raise
            logger.info("told to stop before it served", extra=facts(reason=error.message))


async def _serve(
    runtime: DistributedRuntime,
    options: WorkerOptions,
    load_engine: Callable[[Path], Engine | Embedder],
    on_ready: Callable[[WorkerReport], None],
) -> None:
    endpoint = runtime.endpoint(options.endpoint)
    # Whether weights are needed is the engine's to say, and it says which.
    directory = await asyncio.to_thread(
        find_model, options.model_path, runtime.settings.metadata, ignore_weights=True
    )
    engine = await asyncio.to_thread(load_engine, directory)
    # The instance first: a frontend that lists the model then finds somebody to ask.
    handler, probe = _handler(engine)
    service = await runtime.serve(
        endpoint.id(), handler, health_check_payload=runtime.settings.health.payload or probe
    )
    publication = await register_model(
        ModelInput.Tokens,
        options.model_type,
        endpoint,
        options.model_path,
        options.model_name,
        worker_type=WorkerType.Aggregated,
        kv_cache_block_size=options.kv_cache_block_size,
        runtime_config=ModelRuntimeConfig(context_length=options.context_length),
        custom_template_path=options.custom_template,
        ignore_weights=True,
        model_aliases=options.aliases,
    )
    on_ready(
        WorkerReport(
            publication=publication,
            instance_id=runtime.instance_id,
            status_url=runtime.status_url,
        )
    )
    await service.closed.wait()


def _handler(engine: Engine | Embedder) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What answers requests to ``engine``, and what the canary asks."""
    if isinstance(engine, Embedder):
        return EmbeddingHandler(engine).generate, PROBE
    return engine.generate, _ONE_TOKEN
