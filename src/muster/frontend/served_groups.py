"""The groups that are served, and what the model table lists of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from muster.clock import Clock
from muster.frontend.group_route import GroupRoute
from muster.frontend.guard.admission import Admission
from muster.frontend.guard.busy import Capacity
from muster.frontend.migration_metrics import MigrationMetrics
from muster.frontend.model_build import BuiltModel
from muster.frontend.model_table import ModelTable
from muster.frontend.route_policy import RoutePolicy
from muster.frontend.served_card import capacity_of, served_model
from muster.frontend.served_model import Generate, ServedModel
from muster.frontend.variants import Variants
from muster.log import facts
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.decision import Build, Drop, Members
from muster.model.catalog.group import GroupKey
from muster.runtime import Client

__all__ = ["ServedGroups"]

logger = logging.getLogger(__name__)


class ServedGroups:
    """The way to each group that is served, by model; keeps the model table in step.

    Args:
        table: Lists the models.
        admission: What stands before the models' workers.
        migrations: Where moves between workers are counted.
        clock: Says when a model was first served.
        sampling_defaults: Whether a model's own sampling settings fill in for clients'.
    """

    def __init__(
        self,
        table: ModelTable,
        admission: Admission,
        migrations: MigrationMetrics,
        clock: Clock,
        *,
        sampling_defaults: bool,
    ) -> None:
        self._table = table
        self._admission = admission
        self._migrations = migrations
        self._clock = clock
        self._sampling_defaults = sampling_defaults
        self._variants: dict[str, Variants] = {}
        self._groups: dict[GroupKey, GroupRoute] = {}

    def connect(
        self, group: GroupKey, client: Client, card: ModelDeploymentCard, policy: RoutePolicy
    ) -> GroupRoute:
        """Make a group's way to its workers, in the place of an earlier one; it has no members yet."""
        route = self._groups[group] = GroupRoute(
            client,
            card.lora.name if card.lora is not None else None,
            mode=policy.mode,
            capacity=capacity_of(card),
        )
        return route

    def set_members(self, decision: Members) -> None:
        """The instances that get a group's requests; a no-op if it has no way to them."""
        route = self._groups.get(decision.group)
        if route is not None:
            route.members = frozenset(decision.instance_ids)

    def add(self, build: Build, built: BuiltModel, route: GroupRoute, policy: RoutePolicy) -> None:
        """List what was built, served by the group's way; it replaces the group's earlier card."""
        name = build.group.model
        known = self._table.find(name)
        created = known.created if known is not None else int(self._clock.wall())

        def capacities() -> dict[int, Capacity]:
            return {
                instance_id: group.capacity
                for key, group in self._groups.items()
                if key.model == name
                for instance_id in group.members
            }

        def served(generate: Generate) -> ServedModel:
            guarded = self._admission.around(name, generate, capacities, policy.thresholds)
            return served_model(
                build,
                built,
                created=created,
                generate=guarded,
                policy=policy,
                sampling_defaults=self._sampling_defaults,
            )

        variants = self._variants.get(name)
        if variants is None:
            busy = self._admission.busy(name)
            variants = self._variants[name] = Variants(self._migrations, busy)
        variants.drop(build.group)  # a challenger takes the place of the card that served
        variants.put(build.group, route, build.mdcsum, policy, served)
        self._table.add(variants.entry)
        logger.info(
            "model listed",
            extra=facts(model=name, mdcsum=build.mdcsum, instances=len(route.members)),
        )

    def drop(self, drop: Drop) -> None:
        """Stop serving a group; its model goes with the last one. A no-op if it is not served."""
        self._groups.pop(drop.group, None)
        name = drop.group.model
        variants = self._variants.get(name)
        if variants is None:
            return
        variants.drop(drop.group)
        if variants:
            self._table.add(variants.entry)
        else:
            del self._variants[name]
            self._table.remove(name)
            logger.info("model gone", extra=facts(model=name, reason=drop.message))

    def keys(self) -> list[GroupKey]:
        """The groups that are served."""
        return [*self._groups]

    def standing(self) -> dict[str, dict[int, str]]:
        """Why each instance of each served model gets no requests; empty for one that does."""
        found: dict[str, dict[int, str]] = {}
        for group, route in self._groups.items():
            reasons = route.exclusions()
            instances = found.setdefault(group.model, {})
            for instance_id in route.members:
                instances[instance_id] = reasons.get(instance_id, "")
        return found

    def exclusions(self, group: GroupKey) -> Mapping[int, str]:
        """Why those instances of a group that get no requests now do not, by id."""
        route = self._groups.get(group)
        if route is None:
            return {}
        busy = self._admission.busy(group.model)() & route.members
        return dict.fromkeys(busy, "it is busy: beyond a threshold") | route.exclusions()
