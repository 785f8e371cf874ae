"""What a card says of routing, over what the frontend was told."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from muster.config.settings import HttpSettings
from muster.frontend.guard.busy import Thresholds
from muster.frontend.migration import MigrationLimits
from muster.frontend.route_policy import RoutePolicy, SessionAffinity
from muster.model.card import ModelDeploymentCard
from muster.model.router_config import (
    LoadThresholdConfig,
    RouterConfig,
    SessionAffinityMode,
)
from muster.model.router_config import RouterMode as CardRouterMode
from muster.runtime import RouterMode
from muster.testing.tiny_model import write_tiny_model


@pytest.fixture
def card(tmp_path: Path) -> ModelDeploymentCard:
    return ModelDeploymentCard.load(write_tiny_model(tmp_path), "tiny")


TOLD = RoutePolicy.of(
    HttpSettings(
        router_mode="random",
        migration_limit=4,
        migration_after_first=1,
        session_affinity_ttl_s=60,
        session_affinity_mode="soft",
    )
)


def test_a_card_that_says_nothing_changes_nothing(card: ModelDeploymentCard) -> None:
    assert TOLD.for_card(card) == TOLD
    assert TOLD.mode is RouterMode.RANDOM
    assert TOLD.affinity == SessionAffinity(ttl_s=60, hard=False)


def test_a_cards_router_settings_replace_all_of_the_frontends(card: ModelDeploymentCard) -> None:
    config = RouterConfig(
        router_mode=CardRouterMode.LEAST_LOADED,
        load_threshold_config=LoadThresholdConfig(active_prefill_tokens_threshold=7),
        session_affinity_ttl_secs=5,
        session_affinity_mode=SessionAffinityMode.HARD,
    )
    found = TOLD.for_card(msgspec.structs.replace(card, router_config=config))
    assert found.mode is RouterMode.LEAST_LOADED
    assert found.affinity == SessionAffinity(ttl_s=5, hard=True)
    assert found.thresholds == Thresholds(active_prefill_tokens_threshold=7)
    assert found.limits == TOLD.limits

    bare = RouterConfig(router_mode=CardRouterMode.RANDOM)
    found = TOLD.for_card(msgspec.structs.replace(card, router_config=bare))
    assert found.affinity.ttl_s is None
    assert found.thresholds == Thresholds()


def test_what_of_it_cannot_be_done_is_left_to_the_frontend(card: ModelDeploymentCard) -> None:
    config = RouterConfig(
        router_mode=CardRouterMode.KV,
        load_threshold_config=LoadThresholdConfig(active_decode_blocks_threshold=3.0),
    )
    found = TOLD.for_card(msgspec.structs.replace(card, router_config=config))
    assert found.mode is RouterMode.RANDOM
    assert found.thresholds is None


@pytest.mark.parametrize(("limit", "limits"), [(0, (4, 1)), (1, (1, 1)), (2, (2, 1)), (9, (4, 1))])
def test_a_cards_migration_limit_is_a_cap(
    card: ModelDeploymentCard, limit: int, limits: tuple[int, int]
) -> None:
    found = TOLD.for_card(msgspec.structs.replace(card, migration_limit=limit))
    assert found.limits == MigrationLimits(before_first=limits[0], after_first=limits[1])
