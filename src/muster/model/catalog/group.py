"""What belongs together: records of one model at one endpoint with the same surfaces."""

from __future__ import annotations

import msgspec

from muster.digest import Digest
from muster.discovery.records import ModelRecord
from muster.model.card import ModelDeploymentCard
from muster.model.extension import CardExtension
from muster.model.mdcsum import compute_terms
from muster.model.model_type import ModelType, WorkerType
from muster.names import EndpointId

__all__ = ["GroupKey", "Member", "name_in"]


class GroupKey(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """Names a group: the model, and what Dynamo 1.6.1 calls its WorkerSet."""

    model: str
    namespace: str
    component: str
    endpoint: str
    model_types: str
    worker_type: str

    def __str__(self) -> str:
        return f"{self.model} {self.worker_set}"

    @property
    def worker_set(self) -> str:
        """The WorkerSet's key as Dynamo writes it: a JSON array.

        ``["ns","component","endpoint","chat|completions","aggregated"]``.
        """
        return msgspec.json.encode(
            [self.namespace, self.component, self.endpoint, self.model_types, self.worker_type]
        ).decode()

    @property
    def endpoint_id(self) -> EndpointId:
        """The endpoint that serves it."""
        return EndpointId(self.namespace, self.component, self.endpoint)

    @classmethod
    def of(cls, record: ModelRecord, card: ModelDeploymentCard) -> GroupKey:
        """The group a record and its card belong to."""
        worker_type = card.worker_type
        if worker_type is None:  # a card from before there were worker types
            is_prefill = ModelType.Prefill in card.model_type
            worker_type = WorkerType.Prefill if is_prefill else WorkerType.Aggregated
        return cls(
            model=card.display_name,
            namespace=record.namespace,
            component=record.component,
            endpoint=record.endpoint,
            model_types="|".join(card.model_type.names).lower(),
            worker_type=worker_type.value,
        )


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One record that could be read. Two are the same member with the same card if they are equal.

    Attributes:
        key: The record's key.
        instance_id: Whose it is.
        mdcsum: The card's digest.
        identity: The identity of its files, if the card says it.
        terms: The digest of what else must be equal; see ``compute_terms``.
        card: The card.
    """

    key: str
    instance_id: int
    mdcsum: str
    identity: Digest | None
    terms: str
    card: ModelDeploymentCard

    @classmethod
    def of(cls, key: str, record: ModelRecord, card: ModelDeploymentCard) -> Member:
        """The member that a record under ``key`` makes."""
        return cls(
            key=key,
            instance_id=record.instance_id,
            mdcsum=card.mdcsum(),
            identity=CardExtension.read(card.muster).identity,
            terms=compute_terms(card),
            card=card,
        )


class _Named(msgspec.Struct):
    display_name: str = ""


def name_in(record: ModelRecord) -> str:
    """The model's name in a record whose card may be unreadable otherwise; empty if there is none."""
    try:
        return msgspec.json.decode(record.card_json, type=_Named).display_name
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
