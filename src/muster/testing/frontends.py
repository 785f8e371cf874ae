"""A running frontend over scripted models."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from muster.config.settings import GuardSettings, HttpSettings
from muster.discovery.records import Instance
from muster.frontend.guard.admission import Admission
from muster.frontend.model_table import ModelStatus, ModelTable
from muster.frontend.server import Frontend
from muster.testing.scripted import ScriptedModel

__all__ = ["running_frontend"]


@contextlib.asynccontextmanager
async def running_frontend(
    *models: ScriptedModel,
    unserved: Sequence[ModelStatus] = (),
    instances: Callable[[], Sequence[Instance]] = tuple,
    body_limit_mb: int = 45,
    drain_timeout_s: float = 30.0,
    guard: GuardSettings | None = None,
    admission: Admission | None = None,
    **http: Any,
) -> AsyncIterator[Frontend]:
    """A frontend on a free port of 127.0.0.1 that serves ``models``; closed at the end.

    ``http`` are further fields of ``HttpSettings``.
    """
    table = ModelTable(unserved=lambda: unserved, instances=instances)
    for model in models:
        table.add(model.served)
    settings = HttpSettings(
        host="127.0.0.1",
        port=0,
        body_limit_mb=body_limit_mb,
        drain_timeout_s=drain_timeout_s,
        **http,
    )
    frontend = Frontend(settings, table, guard=guard, admission=admission)
    await frontend.start()
    try:
        yield frontend
    finally:
        await frontend.close()
