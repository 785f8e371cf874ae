"""Which instances' model cards say something in their runtime data.

A card's ``runtime_config.runtime_data`` holds whatever its worker wants others to know; workers of
one group find each other by a value in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from muster.discovery.base import Discovery
from muster.discovery.records import MODELS, ModelRecord
from muster.errors import DiscoveryError
from muster.log import facts
from muster.names import EndpointId

__all__ = ["CardsSaying", "wait_for_cards"]

logger = logging.getLogger(__name__)


class _RuntimeConfig(msgspec.Struct, frozen=True):
    runtime_data: dict[str, Any] | None = None


class _Card(msgspec.Struct, frozen=True):
    """The one part of a card that matters here."""

    runtime_config: _RuntimeConfig | None = None


_decode = msgspec.json.Decoder(_Card).decode


class CardsSaying:
    """The instances with a card that has ``value`` at ``key``; no I/O.

    An instance may have several cards (a LoRA adapter's is one of its own); one that says so is
    enough. Only a text that is equal counts: no other type, and no part of a text.

    Args:
        key: Key in the card's runtime data.
        value: Its value there.
    """

    def __init__(self, key: str, value: str) -> None:
        self._key = key
        self._value = value
        self._ids_by_record: dict[str, int] = {}

    def put(self, record_key: str, record: bytes | None) -> None:
        """A record is there, has changed, or is gone (``None``). What cannot be read says nothing.

        A record that is not a model's is logged and skipped.
        """
        self._ids_by_record.pop(record_key, None)
        if record is None:
            return
        try:
            model = ModelRecord.from_json(record)
            card = _decode(bytes(model.card_json))
        except (DiscoveryError, msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning("skipped a model's record: %s", error, extra=facts(key=record_key))
            return
        data = (card.runtime_config and card.runtime_config.runtime_data) or {}
        if data.get(self._key) == self._value:
            self._ids_by_record[record_key] = model.instance_id

    def ids(self) -> list[int]:
        """Ids of those instances, sorted."""
        return sorted(set(self._ids_by_record.values()))


async def wait_for_cards(
    discovery: Discovery,
    endpoint: EndpointId,
    cards: CardsSaying,
    is_enough: Callable[[list[int]], bool],
) -> None:
    """Keep ``cards`` up to date until ``is_enough`` says so of their ids. The caller sets the limit.

    Raises:
        DiscoveryError: The registry cannot be read, or was closed.
    """
    async with discovery.watch(MODELS, str(endpoint)) as watch:
        for key, value in watch.snapshot.items():
            cards.put(key, value)
        if is_enough(cards.ids()):
            return
        async for change in watch:
            cards.put(change.key, change.value)
            if is_enough(cards.ids()):
                return
    raise DiscoveryError(f"the model cards of {endpoint} are not watched any more")
