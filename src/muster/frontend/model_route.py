"""Where a model's requests go: the instances of its groups, through the request plane."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import count

from muster.errors import MusterError, Overloaded, WorkerUnavailable
from muster.frontend.affinity import Bindings, home_of, session_of
from muster.frontend.group_route import GroupRoute, named_instance
from muster.frontend.journey import Journey, Leg
from muster.frontend.migration import Progress
from muster.frontend.migration_metrics import MigrationMetrics
from muster.frontend.moving_stream import MovingStream
from muster.frontend.route_policy import RoutePolicy
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.log import facts
from muster.model.catalog.group import GroupKey
from muster.runtime import Context
from muster.runtime.calling.client import TRY_ELSEWHERE
from muster.runtime.calling.response import Response

__all__ = ["ModelRoute"]

logger = logging.getLogger(__name__)


def _nobody() -> frozenset[int]:
    return frozenset()


class ModelRoute:
    """All groups of one model: the same model served in several namespaces or at several endpoints.

    They share the requests in proportion to their instances that can take one. If a group's cannot
    be reached, or all are full, the others are tried; instances that are busy only where no other
    is left. Requests of one session go to one instance as long as that can take them. A request
    whose instance is lost goes on at another one.

    Args:
        policy: How requests are routed.
        metrics: Where moves are counted.
        busy: Gives the instances that are busy.
    """

    __slots__ = ("_bindings", "_busy", "_groups", "_metrics", "_policy", "_requests")

    def __init__(
        self,
        policy: RoutePolicy | None = None,
        metrics: MigrationMetrics | None = None,
        busy: Callable[[], frozenset[int]] = _nobody,
    ) -> None:
        self._policy = policy or RoutePolicy()
        self._metrics = metrics or MigrationMetrics()
        self._busy = busy
        self._groups: dict[GroupKey, GroupRoute] = {}
        self._requests = count()
        ttl_s = self._policy.affinity.ttl_s
        self._bindings = Bindings(ttl_s) if ttl_s is not None else None

    def __len__(self) -> int:
        return len(self._groups)

    def put(self, key: GroupKey, route: GroupRoute) -> None:
        """Add a group."""
        self._groups[key] = route

    def drop(self, key: GroupKey) -> None:
        """Remove a group; a no-op if it is not there."""
        self._groups.pop(key, None)

    def free(self) -> set[int]:
        """The instances that may get a request now; those that are busy only if all are."""
        free = {instance_id for group in self._groups.values() for instance_id in group.free()}
        return free - self._busy() or free

    def free_count(self) -> int:
        """How many instances may get a request now."""
        return len(self.free()) if self._busy() else sum(map(len, self._free_by_group()))

    def bound(self, session: str) -> int | None:
        """The instance that a session is remembered with; ``None`` if it is not, or that has gone."""
        if self._bindings is None:
            return None
        found = self._bindings.find(session, asyncio.get_running_loop().time())
        return found if any(found in group.members for group in self._groups.values()) else None

    async def generate(self, request: EngineRequest, *, context: Context) -> MovingStream:
        """Send a request; see ``muster.frontend.served_model.Generate``."""
        journey = Journey(request.mdc_sum or "")
        progress = Progress(request, self._policy.limits)
        reopen = partial(self._open, context=context, journey=journey)
        response = await reopen(request, lost=frozenset(), moves=progress.moves_left)
        journey.taken_at = asyncio.get_running_loop().time()
        journey.instance_id = response.instance_id
        return MovingStream(response, progress, reopen, self._metrics, journey)

    async def _open(
        self,
        request: EngineRequest,
        *,
        context: Context,
        journey: Journey,
        lost: frozenset[int],
        moves: int,
    ) -> Response[EngineOutput]:
        """Send a request to somebody who has not lost it; to its session's instance, if it can."""
        named, session = named_instance(request), session_of(request)
        if named is not None or not session:
            return await self._open_anywhere(request, context, lost, moves, None)
        bound = self.bound(session)
        chosen = self._of_session(session, request.model, bound, lost, journey)
        if self._is_held(chosen, bound) and chosen in self._busy():
            raise Overloaded(f"The instance of this session, {chosen:x}, is busy")
        failure: MusterError | None = None
        response: Response[EngineOutput] | None = None
        for group in [each for each in self._groups.values() if chosen in each.members][:1]:
            only = group.members & {chosen}
            try:
                response = await group.open(request, context, among=only, moves=0)
            except TRY_ELSEWHERE as error:
                if self._is_held(chosen, bound) and isinstance(error, Overloaded):
                    raise
                failure = error
                lost |= only
                journey.session = "away"
                journey.lost.append(Leg(f"{chosen:x}", error.code))
        if response is None:
            response = await self._open_anywhere(request, context, lost, moves, failure)
        if self._bindings is not None and response.instance_id is not None:
            now = asyncio.get_running_loop().time()
            self._bindings.bind(session, response.instance_id, now)
        return response

    async def _open_anywhere(
        self,
        request: EngineRequest,
        context: Context,
        lost: frozenset[int],
        moves: int,
        failure: MusterError | None,
    ) -> Response[EngineOutput]:
        """Send a request to whoever's turn it is, or to the instance it names.

        Args:
            request: The request.
            context: Its id and metadata.
            lost: Who must not get it.
            moves: How often it may move before its first item.
            failure: What is raised if nobody takes it; by default what the first one says.
        """
        named, busy = named_instance(request), self._busy()
        groups = self._in_order(busy)
        if named is not None:
            groups = [group for group in groups if named in group.members] or groups[:1]
            busy = frozenset()
        for avoided in (lost | busy, lost) if busy else (lost,):
            for group in groups:
                among = group.members - avoided if avoided else group.members
                if avoided and not among:
                    continue
                try:
                    return await group.open(request, context, among=among, moves=moves)
                except TRY_ELSEWHERE as error:
                    failure = failure or error
        raise failure or WorkerUnavailable(f"nobody else serves {request.model!r} now")

    def _is_held(self, chosen: int | None, bound: int | None) -> bool:
        """Whether the chosen instance is the only one the session may go to."""
        return bound is not None and chosen == bound and self._policy.affinity.hard

    def _of_session(
        self, session: str, model: str, bound: int | None, lost: frozenset[int], journey: Journey
    ) -> int | None:
        """The instance for a session's request: its home, or the next to it if that cannot."""
        members = {each for group in self._groups.values() for each in group.members}
        free = self.free()
        home = home_of(session, model, members) if bound is None else bound
        if home not in lost and (home in free or self._is_held(home, bound)):
            journey.session = "home"
            return home
        chosen = home_of(session, model, free - lost)
        journey.session = "home" if chosen == home else "away"
        if chosen != home and home is not None:
            logger.info(
                "session is not at its instance",
                extra=facts(model=model, home=f"{home:x}", instance=f"{chosen or 0:x}"),
            )
        return chosen

    def _free_by_group(self, busy: frozenset[int] = frozenset()) -> list[tuple[int, ...]]:
        """Of each group, the instances that may get a request now and are not busy."""
        groups = self._groups.values()
        if not busy:
            return [group.free() for group in groups]
        return [tuple(each for each in group.free() if each not in busy) for group in groups]

    def _in_order(self, busy: frozenset[int]) -> list[GroupRoute]:
        """The groups, beginning with the one whose turn it is."""
        groups = list(self._groups.values())
        if len(groups) < 2:
            return groups
        weights = [len(free) for free in self._free_by_group(busy)]
        total = sum(weights)
        turn = next(self._requests) % total if total else 0
        for index, weight in enumerate(weights):
            turn -= weight
            if turn < 0:
                return [*groups[index:], *groups[:index]]
        return groups
