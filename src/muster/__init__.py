"""Muster: serve language models from many processes and machines.

The names below are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from muster._version import __version__

if TYPE_CHECKING:
    from muster.model.card import ModelDeploymentCard
    from muster.model.checked_file import CheckedFile
    from muster.model.model_type import ModelInput, ModelType, WorkerType
    from muster.model.publish.register import register_model, unregister_model
    from muster.model.runtime_config import ModelRuntimeConfig
    from muster.runtime.client import Client
    from muster.runtime.component import Component, Endpoint, Namespace
    from muster.runtime.distributed import DistributedRuntime
    from muster.runtime.metadata_registry import MetadataArtifactRegistry
    from muster.wire.context import Context

__all__ = [
    "CheckedFile",
    "Client",
    "Component",
    "Context",
    "DistributedRuntime",
    "Endpoint",
    "MetadataArtifactRegistry",
    "ModelDeploymentCard",
    "ModelInput",
    "ModelRuntimeConfig",
    "ModelType",
    "Namespace",
    "WorkerType",
    "__version__",
    "register_model",
    "unregister_model",
]

_PLACES = {
    "CheckedFile": "muster.model.checked_file",
    "Client": "muster.runtime.client",
    "Component": "muster.runtime.component",
    "Context": "muster.wire.context",
    "DistributedRuntime": "muster.runtime.distributed",
    "Endpoint": "muster.runtime.component",
    "MetadataArtifactRegistry": "muster.runtime.metadata_registry",
    "ModelDeploymentCard": "muster.model.card",
    "ModelInput": "muster.model.model_type",
    "ModelRuntimeConfig": "muster.model.runtime_config",
    "ModelType": "muster.model.model_type",
    "Namespace": "muster.runtime.component",
    "WorkerType": "muster.model.model_type",
    "register_model": "muster.model.publish.register",
    "unregister_model": "muster.model.publish.register",
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'muster' has no attribute {name!r}")
    value = getattr(importlib.import_module(place), name)
    globals()[name] = value
    return value
