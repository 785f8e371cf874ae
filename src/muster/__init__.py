"""Muster: serve language models from many processes and machines.

The names below are loaded on first use, so that importing the package costs nothing. Those that
Dynamo has too, in ``dynamo.runtime`` and ``dynamo.llm``, take the same arguments.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from muster._version import __version__

if TYPE_CHECKING:
    from muster.discovery.records import DeviceType, Instance, Transport, TransportType
    from muster.model.card import ModelDeploymentCard
    from muster.model.checked_file import CheckedFile
    from muster.model.model_type import ModelInput, ModelType, WorkerType
    from muster.model.publish.fetch_model import fetch_llm, fetch_model
    from muster.model.publish.lora_id import lora_name_to_id
    from muster.model.publish.register import (
        register_llm,
        register_model,
        unregister_llm,
        unregister_model,
    )
    from muster.model.publish.taints import update_model_taints
    from muster.model.runtime_config import ModelRuntimeConfig
    from muster.names import EndpointId
    from muster.runtime.calling.choosers import RouterMode
    from muster.runtime.calling.client import Client
    from muster.runtime.components.component import Component, Namespace
    from muster.runtime.components.decorators import dynamo_endpoint, dynamo_worker
    from muster.runtime.components.documents import Document
    from muster.runtime.components.endpoint import Endpoint
    from muster.runtime.components.endpoint_builder import EndpointBuilder
    from muster.runtime.components.unary import UnaryClient, serve_unary_endpoint
    from muster.runtime.components.watched_keys import KeyReaction, KeyState, KeyWatch
    from muster.runtime.distributed import DistributedRuntime
    from muster.runtime.metadata.registry import MetadataArtifactRegistry
    from muster.wire.context import Context
    from muster.wire.items import Annotated

__all__ = [
    "Annotated",
    "CheckedFile",
    "Client",
    "Component",
    "Context",
    "DeviceType",
    "DistributedRuntime",
    "Document",
    "Endpoint",
    "EndpointBuilder",
    "EndpointId",
    "Instance",
    "KeyReaction",
    "KeyState",
    "KeyWatch",
    "MetadataArtifactRegistry",
    "ModelDeploymentCard",
    "ModelInput",
    "ModelRuntimeConfig",
    "ModelType",
    "Namespace",
    "RouterMode",
    "Transport",
    "TransportType",
    "UnaryClient",
    "WorkerType",
    "__version__",
    "dynamo_endpoint",
    "dynamo_worker",
    "fetch_llm",
    "fetch_model",
    "lora_name_to_id",
    "register_llm",
    "register_model",
    "serve_unary_endpoint",
    "unregister_llm",
    "unregister_model",
    "update_model_taints",
]

_PLACES = {
    "Annotated": "muster.wire.items",
    "CheckedFile": "muster.model.checked_file",
    "Client": "muster.runtime.calling.client",
    "Component": "muster.runtime.components.component",
    "Context": "muster.wire.context",
    "DeviceType": "muster.discovery.records",
    "DistributedRuntime": "muster.runtime.distributed",
    "Document": "muster.runtime.components.documents",
    "Endpoint": "muster.runtime.components.endpoint",
    "EndpointBuilder": "muster.runtime.components.endpoint_builder",
    "EndpointId": "muster.names",
    "Instance": "muster.discovery.records",
    "KeyReaction": "muster.runtime.components.watched_keys",
    "KeyState": "muster.runtime.components.watched_keys",
    "KeyWatch": "muster.runtime.components.watched_keys",
    "MetadataArtifactRegistry": "muster.runtime.metadata.registry",
    "ModelDeploymentCard": "muster.model.card",
    "ModelInput": "muster.model.model_type",
    "ModelRuntimeConfig": "muster.model.runtime_config",
    "ModelType": "muster.model.model_type",
    "Namespace": "muster.runtime.components.component",
    "RouterMode": "muster.runtime.calling.choosers",
    "Transport": "muster.discovery.records",
    "TransportType": "muster.discovery.records",
    "UnaryClient": "muster.runtime.components.unary",
    "WorkerType": "muster.model.model_type",
    "dynamo_endpoint": "muster.runtime.components.decorators",
    "dynamo_worker": "muster.runtime.components.decorators",
    "fetch_llm": "muster.model.publish.fetch_model",
    "fetch_model": "muster.model.publish.fetch_model",
    "lora_name_to_id": "muster.model.publish.lora_id",
    "register_llm": "muster.model.publish.register",
    "register_model": "muster.model.publish.register",
    "serve_unary_endpoint": "muster.runtime.components.unary",
    "unregister_llm": "muster.model.publish.register",
    "unregister_model": "muster.model.publish.register",
    "update_model_taints": "muster.model.publish.taints",
}


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'muster' has no attribute {name!r}")
    value = getattr(importlib.import_module(place), name)
    globals()[name] = value
    return value
