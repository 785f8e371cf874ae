"""How the requests of a card are routed: what the frontend was told, and what the card says. Pure.

As in Dynamo 1.6.1, the router settings in a card replace the frontend's as a whole: a card that has
any, and no session affinity in them, has its frontend's affinity not either.
"""

from __future__ import annotations

import logging

import msgspec

from muster.config.settings import HttpSettings
from muster.errors import MusterError
from muster.frontend.guard.busy import Thresholds
from muster.frontend.migration import MigrationLimits
from muster.log import facts
from muster.model.card import ModelDeploymentCard
from muster.model.router_config import RouterConfig, SessionAffinityMode
from muster.runtime import RouterMode

__all__ = ["RoutePolicy", "SessionAffinity"]

logger = logging.getLogger(__name__)


class SessionAffinity(msgspec.Struct, frozen=True, kw_only=True):
    """How sessions stay with instances; see ``muster.frontend.affinity``.

    Attributes:
        ttl_s: How long a session is remembered after its last request; ``None`` for not at all: its
            name alone then says where it goes.
        hard: Whether a session that is remembered goes to its instance or nowhere.
    """

    ttl_s: float | None = None
    hard: bool = True


class RoutePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How requests are routed.

    Attributes:
        mode: How an instance is chosen.
        limits: How often requests may move.
        affinity: How sessions stay with instances.
        thresholds: Beyond which instances are busy; ``None`` for the frontend's.
    """

    mode: RouterMode = RouterMode.ROUND_ROBIN
    limits: MigrationLimits = MigrationLimits()
    affinity: SessionAffinity = SessionAffinity()
    thresholds: Thresholds | None = None

    @classmethod
    def of(cls, settings: HttpSettings) -> RoutePolicy:
        """What a frontend's settings say.

        Raises:
            InvalidArgument: The mode is unknown.
        """
        return cls(
            mode=RouterMode.parse(settings.router_mode),
            limits=MigrationLimits.of(settings),
            affinity=SessionAffinity(
                ttl_s=settings.session_affinity_ttl_s,
                hard=settings.session_affinity_mode == SessionAffinityMode.HARD,
            ),
        )

    def for_card(self, card: ModelDeploymentCard) -> RoutePolicy:
        """The policy for the workers of a card.

        The card's ``migration_limit`` is a cap: requests of its model move no more often than both it
        and the frontend say. 0 says nothing: every card of Dynamo 1.6.1 has it, whose limit is its
        frontend's alone.
        """
        found = msgspec.structs.replace(self, limits=self.limits.capped(card.migration_limit))
        config = card.router_config
        if config is None:
            return found
        load = config.load_threshold_config
        return msgspec.structs.replace(
            found,
            mode=_mode(config, self.mode),
            affinity=SessionAffinity(
                ttl_s=config.session_affinity_ttl_secs,
                hard=config.session_affinity_mode is SessionAffinityMode.HARD,
            ),
            thresholds=_thresholds(
                Thresholds(
                    active_decode_blocks_threshold=load.active_decode_blocks_threshold,
                    active_prefill_tokens_threshold=load.active_prefill_tokens_threshold,
                    active_prefill_tokens_threshold_frac=load.active_prefill_tokens_threshold_frac,
                )
            ),
        )


def _mode(config: RouterConfig, default: RouterMode) -> RouterMode:
    try:
        return RouterMode.parse(config.router_mode)
    except MusterError as error:
        logger.warning(
            "a card's router mode is not supported: %s",
            error.message,
            extra=facts(wanted=str(config.router_mode), used=str(default)),
        )
        return default


def _thresholds(wanted: Thresholds) -> Thresholds | None:
    complaint = wanted.complaint()
    if complaint:
        logger.warning("a card's busy thresholds cannot be used: %s", complaint)
        return None
    return wanted
