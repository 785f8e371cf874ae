"""Taints of a registered model: marks that routing may require, prefer or avoid."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from muster.errors import InvalidArgument
from muster.model.card import ModelDeploymentCard
from muster.model.publish.publisher import Publisher
from muster.runtime import Endpoint

__all__ = ["RESERVED_TAINTS", "update_model_taints", "with_taints"]

RESERVED_TAINTS = "dynamo.topology/"
"""Prefix of taints that come from the model's topology, and that callers do not touch."""


async def update_model_taints(endpoint: Endpoint, taints: Collection[str]) -> None:
    """Replace the taints of the model this process registered at ``endpoint``.

    The card is written anew in place; frontends follow without reloading anything. Taints of the
    model's topology stay. The same taints again change nothing.

    Args:
        endpoint: Where the model is registered. LoRA adapters there keep their own taints.
        taints: All of them, in any order; none of them reserved.

    Raises:
        InvalidArgument: A taint is no text, or begins with ``dynamo.topology/``.
        NotRegisteredError: This process has registered no model there.
        DiscoveryError: The registry cannot be written; the taints are as before.
    """
    wanted = _checked(taints)
    await Publisher.of(endpoint.runtime).revise(
        endpoint.id(), lambda card: with_taints(card, wanted)
    )


def with_taints(card: ModelDeploymentCard, taints: Collection[str]) -> ModelDeploymentCard:
    """``card`` with these taints, sorted, and its reserved ones."""
    config = card.runtime_config
    kept = {taint for taint in config.taints if taint.startswith(RESERVED_TAINTS)}
    changed = msgspec.structs.replace(config, taints=tuple(sorted(kept.union(taints))))
    return msgspec.structs.replace(card, runtime_config=changed)


def _checked(taints: Collection[str]) -> frozenset[str]:
    if isinstance(taints, str):
        raise InvalidArgument(f"taints are a set of texts, not the text {taints!r}")
    for taint in taints:
        if not isinstance(taint, str):
            raise InvalidArgument(f"a taint is a text, not {taint!r}")
        if taint.startswith(RESERVED_TAINTS):
            raise InvalidArgument(
                f"taint {taint!r} uses reserved prefix {RESERVED_TAINTS!r}",
                hint="such taints come from the model's topology_domains",
            )
    return frozenset(taints)
