"""Who may be asked for a card's files: the live instances that published it."""

from __future__ import annotations

import msgspec

from muster.model.card import ModelDeploymentCard

__all__ = ["Replica"]


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """One instance's card, and what is known of the instance.

    Attributes:
        card: Its card.
        key: Its record's key, for messages; empty for a card that is in no registry.
        host: The host its request-plane address names, without a port; ``None`` if that is not
            known, or its transport has none.
        healthy: Whether requests to it have not failed lately.
    """

    card: ModelDeploymentCard
    key: str = ""
    host: str | None = None
    healthy: bool = True
