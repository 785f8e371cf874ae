"""Whether an endpoint is still free for a model."""

from __future__ import annotations

from muster.discovery.base import Discovery
from muster.discovery.records import MODELS, ModelRecord
from muster.errors import ConflictError, DiscoveryError
from muster.model.catalog.group import name_in
from muster.model.publish.publication import PublishSlot

__all__ = ["check_endpoint_free"]


async def check_endpoint_free(discovery: Discovery, slot: PublishSlot, name: str) -> None:
    """Refuse a second base model at one endpoint, whoever registered the first; LoRAs may join it.

    Raises:
        ConflictError: The registry has another model there.
        DiscoveryError: The registry cannot be read.
    """
    if slot.lora_slug is not None:
        return
    endpoint = slot.endpoint
    for value in (await discovery.list(MODELS, str(endpoint))).values():
        try:
            record = ModelRecord.from_json(value)
        except DiscoveryError:
            continue
        other = name_in(record)
        if record.model_suffix is None and other != name:
            raise ConflictError(
                f"Cannot register model {name!r} on endpoint '{endpoint}': "
                f"a different model {other!r} is already registered there",
                hint="serve it at an endpoint of its own",
            )
