"""The records in a registry, and their JSON and keys as Dynamo 1.6.1 writes them.

Unknown fields are ignored on reading. Instance ids are u64: decimal in JSON, lower-case hexadecimal
without padding in keys. What Muster adds to an instance's record is in an object of its own, under
the key ``muster``, which 1.6.1 ignores.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from muster.errors import DiscoveryError
from muster.names import EndpointId

__all__ = [
    "INSTANCES",
    "MODELS",
    "DeviceType",
    "Instance",
    "ModelRecord",
    "Transport",
    "TransportType",
]

INSTANCES = "v1/instances"
"""Bucket of endpoint instances."""
MODELS = "v1/mdc"
"""Bucket of model cards."""


class TransportType(enum.StrEnum):
    """How an instance is reached."""

    NATS_TCP = "nats_tcp"
    HTTP = "http"
    TCP = "tcp"


class DeviceType(enum.StrEnum):
    """What an instance computes on."""

    CPU = "cpu"
    CUDA = "cuda"


class Transport(msgspec.Struct, frozen=True, order=True):
    """One way to reach an instance. JSON: ``{"<kind>": "<address>"}``."""

    kind: str
    address: str


class _InstanceJson(msgspec.Struct, frozen=True, omit_defaults=True):
    """The wire form: field order is what 1.6.1 writes."""

    component: str
    endpoint: str
    namespace: str
    instance_id: int
    transport: dict[str, str]
    type: str = ""
    device_type: str | None = None
    request_plane_codec: str | None = None
    muster: Any = None


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One process serving one endpoint. Text form and order: ``ns/component/endpoint/id``.

    ``host`` is the name or address of the process's machine, for a transport whose address does not
    say it; in the record it is ``"muster": {"host": "..."}``.
    """

    namespace: str
    component: str
    endpoint: str
    instance_id: int
    transport: Transport
    device_type: str | None = None
    request_plane_codec: str | None = None
    host: str | None = None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.component}/{self.endpoint}/{self.instance_id}"

    def __lt__(self, other: Instance) -> bool:
        return str(self) < str(other)

    @property
    def endpoint_id(self) -> EndpointId:
        """The endpoint it serves."""
        return EndpointId(self.namespace, self.component, self.endpoint)

    @property
    def key(self) -> str:
        """Its key in the ``INSTANCES`` bucket."""
        return instance_key(self.endpoint_id, self.instance_id)

    def to_builtins(self) -> dict[str, Any]:
        """The seven-field object that ``/health`` pages show: the record of 1.6.1 without ``type``."""
        fields: dict[str, Any] = {
            "component": self.component,
            "endpoint": self.endpoint,
            "namespace": self.namespace,
            "instance_id": self.instance_id,
            "transport": {self.transport.kind: self.transport.address},
        }
        if self.device_type is not None:
            fields["device_type"] = self.device_type
        if self.request_plane_codec is not None:
            fields["request_plane_codec"] = self.request_plane_codec
        return fields

    def to_json(self) -> bytes:
        """The record: one line of JSON in the peer's field order."""
        fields = {"type": "Endpoint", **self.to_builtins()}
        if self.host is not None:
            fields["muster"] = {"host": self.host}
        return msgspec.json.encode(fields)

    @classmethod
    def from_json(cls, data: bytes) -> Instance:
        """Read a record, with or without its ``type``.

        A ``muster`` that is not as we write it counts as absent: it must not cost an instance.

        Raises:
            DiscoveryError: If it is not an instance's record; says what is missing or wrong.
        """
        try:
            wire = msgspec.json.decode(data, type=_InstanceJson)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DiscoveryError(f"not an instance record: {error}") from error
        if wire.type not in ("", "Endpoint") or len(wire.transport) != 1:
            raise DiscoveryError(
                f"not an instance record: type {wire.type!r}, transport {wire.transport!r}"
            )
        ((kind, address),) = wire.transport.items()
        return cls(
            namespace=wire.namespace,
            component=wire.component,
            endpoint=wire.endpoint,
            instance_id=wire.instance_id,
            transport=Transport(kind, address),
            device_type=wire.device_type,
            request_plane_codec=wire.request_plane_codec,
            host=_host_in(wire.muster),
        )


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One worker's card in the registry. ``card_json`` is the card's text, kept as it came."""

    namespace: str
    component: str
    endpoint: str
    instance_id: int
    card_json: msgspec.Raw
    model_suffix: str | None = None

    @property
    def endpoint_id(self) -> EndpointId:
        """The endpoint that serves the model."""
        return EndpointId(self.namespace, self.component, self.endpoint)

    @property
    def key(self) -> str:
        """Its key in the ``MODELS`` bucket: the instance's, and the LoRA's slug if it is one."""
        key = instance_key(self.endpoint_id, self.instance_id)
        return f"{key}/{self.model_suffix}" if self.model_suffix else key

    def to_json(self) -> bytes:
        """The record: one line of JSON in the peer's field order."""
        fields: dict[str, Any] = {
            "type": "Model",
            "namespace": self.namespace,
            "component": self.component,
            "endpoint": self.endpoint,
            "instance_id": self.instance_id,
            "card_json": self.card_json,
        }
        if self.model_suffix:
            fields["model_suffix"] = self.model_suffix
        return msgspec.json.encode(fields)

    @classmethod
    def from_json(cls, data: bytes) -> ModelRecord:
        """Read a record.

        Raises:
            DiscoveryError: If it is not a model's record; says what is missing or wrong.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DiscoveryError(f"not a model record: {error}") from error


def _host_in(extension: Any) -> str | None:
    """The host in a record's ``muster``, if it is a text."""
    host = extension.get("host") if isinstance(extension, dict) else None
    return host if isinstance(host, str) and host else None


def instance_key(endpoint: EndpointId, instance_id: int) -> str:
    """The key of an endpoint's instance: ``ns/component/endpoint/<hex id>``."""
    return f"{endpoint}/{instance_id:x}"
