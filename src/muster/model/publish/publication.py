"""What is published: a registration as others see it, and the record that says so."""

from __future__ import annotations

import msgspec

from muster.digest import Digest
from muster.discovery.records import ModelRecord, instance_key
from muster.errors import CardError, InvalidArgument
from muster.model.card import ModelDeploymentCard
from muster.model.publish.harvest import LeftOutFile
from muster.names import EndpointId

__all__ = ["Publication", "PublishSlot", "check_readable"]


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """A registered model.

    Attributes:
        card: Its card as published.
        key: Its record's key.
        identity: See ``muster.model.identity``; ``None`` for a model without files.
        files_served: How many files this worker serves for it.
        left_out: Entries of its directory that do not travel.
    """

    card: ModelDeploymentCard
    key: str
    identity: Digest | None = None
    files_served: int = 0
    left_out: tuple[LeftOutFile, ...] = ()


class PublishSlot(msgspec.Struct, frozen=True):
    """A place for one registration: an endpoint of an instance has one, and one for each LoRA."""

    instance_id: int
    endpoint: EndpointId
    lora_slug: str | None = None

    @property
    def key(self) -> str:
        """Its record's key."""
        key = instance_key(self.endpoint, self.instance_id)
        return f"{key}/{self.lora_slug}" if self.lora_slug else key

    def record(self, card: ModelDeploymentCard) -> ModelRecord:
        """The record that publishes ``card`` here."""
        return ModelRecord(
            namespace=self.endpoint.namespace,
            component=self.endpoint.component,
            endpoint=self.endpoint.name,
            instance_id=self.instance_id,
            card_json=msgspec.Raw(card.to_json_str().encode()),
            model_suffix=self.lora_slug,
        )


def check_readable(card: ModelDeploymentCard) -> ModelDeploymentCard:
    """``card`` as others read it.

    Raises:
        InvalidArgument: They cannot; a frontend would say the same.
    """
    try:
        return ModelDeploymentCard.from_json_str(card.to_json_str())
    except (CardError, UnicodeEncodeError) as error:
        raise InvalidArgument(
            f"the card of {card.display_name!r} could not be read by others: {error}"
        ) from error
