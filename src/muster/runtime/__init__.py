"""The component model and what makes it run: serve endpoints, call endpoints, watch instances."""

from muster.discovery.records import Instance
from muster.names import EndpointId
from muster.runtime.choosers import RouterMode
from muster.runtime.client import Client
from muster.runtime.component import Component, Endpoint, Namespace
from muster.runtime.distributed import DistributedRuntime
from muster.wire.context import Context
from muster.wire.control import Annotated

__all__ = [
    "Annotated",
    "Client",
    "Component",
    "Context",
    "DistributedRuntime",
    "Endpoint",
    "EndpointId",
    "Instance",
    "Namespace",
    "RouterMode",
]
