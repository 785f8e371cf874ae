"""The component model and what makes it run: serve endpoints, call endpoints, watch instances.

Everything Dynamo has in ``dynamo.runtime`` is here under the same name. So are the functions that
register models, loaded on first use from ``muster.model``: ``muster`` itself is their usual place.
"""

from __future__ import annotations

import importlib
from typing import Any

from muster.discovery.records import DeviceType, Instance, Transport, TransportType
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
from muster.wire.context import Context
from muster.wire.items import Annotated

__all__ = [
    "Annotated",
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
    "Namespace",
    "RouterMode",
    "Transport",
    "TransportType",
    "UnaryClient",
    "dynamo_endpoint",
    "dynamo_worker",
    "serve_unary_endpoint",
]

_REGISTRATION = frozenset(
    {
        "fetch_llm",
        "fetch_model",
        "lora_name_to_id",
        "register_llm",
        "register_model",
        "unregister_llm",
        "unregister_model",
        "update_model_taints",
    }
)


def __getattr__(name: str) -> Any:
    if name not in _REGISTRATION:
        raise AttributeError(f"module 'muster.runtime' has no attribute {name!r}")
    value = getattr(importlib.import_module("muster"), name)
    globals()[name] = value
    return value
