"""One model's name served from several cards at once, as in a rollout over namespaces.

Cards of one name that differ are kept apart where they meet at one endpoint. At different endpoints
each has its place, and each must prepare requests with its own tokenizer and template: which card a
request goes by is decided first, and then it stays with that card's workers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import count

from muster.frontend.affinity import home_of
from muster.frontend.group_route import GroupRoute
from muster.frontend.migration_metrics import MigrationMetrics
from muster.frontend.model_route import ModelRoute
from muster.frontend.route_policy import RoutePolicy
from muster.frontend.served_model import Generate, ServedModel
from muster.model.catalog.group import GroupKey

__all__ = ["Variants"]


class Variants:
    """The cards, by digest, that one name is served from, and the groups of each.

    Args:
        metrics: Where moves are counted.
        busy: Gives the instances that are busy.
    """

    __slots__ = ("_busy", "_metrics", "_requests", "_routes", "_served")

    def __init__(
        self,
        metrics: MigrationMetrics | None = None,
        busy: Callable[[], frozenset[int]] = frozenset,
    ) -> None:
        self._metrics = metrics
        self._busy = busy
        self._routes: dict[str, ModelRoute] = {}
        self._served: dict[str, ServedModel] = {}
        self._requests = count()

    def __len__(self) -> int:
        return len(self._routes)

    def put(
        self,
        key: GroupKey,
        group: GroupRoute,
        mdcsum: str,
        policy: RoutePolicy,
        serve: Callable[[Generate], ServedModel],
    ) -> None:
        """Add a group that serves the card with this digest.

        Args:
            key: The group's.
            group: Its way to its workers.
            mdcsum: The card's digest.
            policy: How requests are routed by the card; that of its first group counts.
            serve: Makes the entry for the model table from a way to all groups of the card.
        """
        route = self._routes.get(mdcsum)
        if route is None:
            route = self._routes[mdcsum] = ModelRoute(policy, self._metrics, self._busy)
        route.put(key, group)
        self._served[mdcsum] = serve(route.generate)

    def drop(self, key: GroupKey) -> None:
        """Remove a group; a no-op if it is not there."""
        for mdcsum, route in [*self._routes.items()]:
            route.drop(key)
            if not route:
                del self._routes[mdcsum], self._served[mdcsum]

    @property
    def entry(self) -> ServedModel:
        """What the model table lists: the card that came last, with ``pick`` if there are others.

        Raises:
            LookupError: There is no group.
        """
        *_, last = self._served.values()
        return last if len(self._served) == 1 else dataclasses.replace(last, pick=self.pick)

    def pick(self, session: str = "") -> ServedModel:
        """The card whose turn it is: in proportion to the instances that can take a request.

        Args:
            session: A session's name. Its requests go by the card of the instance that it is
                remembered with, or of its home among all of them.
        """
        if session:
            for mdcsum, route in self._routes.items():
                if route.bound(session) is not None:
                    return self._served[mdcsum]
            owners = {
                instance_id: self._served[mdcsum]
                for mdcsum, route in self._routes.items()
                for instance_id in route.free()
            }
            home = home_of(session, self.entry.name, owners)
            if home is not None:
                return owners[home]
        weights = [
            (self._served[mdcsum], route.free_count()) for mdcsum, route in self._routes.items()
        ]
        total = sum(weight for _, weight in weights)
        turn = next(self._requests) % total if total else 0
        for served, weight in weights:
            turn -= weight
            if turn < 0:
                return served
        return self.entry
