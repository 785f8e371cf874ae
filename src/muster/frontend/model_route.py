"""Where a model's requests go: the instances of its groups, through the request plane."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from itertools import count

import msgspec

from muster.errors import InvalidArgument, MusterError, WorkerUnavailable
from muster.frontend.affinity import home_of, session_of
from muster.frontend.journey import Journey, Leg
from muster.frontend.migration import MigrationLimits, Progress
from muster.frontend.migration_metrics import MigrationMetrics
from muster.frontend.moving_stream import MovingStream
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.log import facts
from muster.model.catalog.group import GroupKey
from muster.model.router_config import RouterConfig
from muster.runtime import Client, Context, RouterMode
from muster.runtime.calling.client import TRY_ELSEWHERE
from muster.runtime.calling.response import Response
from muster.wire.control import FrameDecoder

__all__ = [
    "INSTANCE_HEADER",
    "INSTANCE_KEY",
    "GroupRoute",
    "ModelRoute",
    "card_mode",
    "named_instance",
]

logger = logging.getLogger(__name__)

_OUTPUTS: FrameDecoder[EngineOutput] = FrameDecoder(EngineOutput)


INSTANCE_HEADER = "x-dynamo-worker-instance-id"
"""Header by which a client names the instance; Dynamo's."""
INSTANCE_KEY = "backend_instance_id"
"""The same in a request's routing."""


def named_instance(request: EngineRequest) -> int | None:
    """The instance a request wants, if it names one."""
    return request.routing.get(INSTANCE_KEY) if request.routing else None


class GroupRoute:
    """One group's way: a client of its endpoint, and which instances are the group's.

    Args:
        client: A client of the group's endpoint.
        lora_name: For a LoRA adapter's group: its name, which the engine is told.
        mode: The client's router mode.
    """

    __slots__ = ("_client", "_lora_name", "_mode", "members")

    def __init__(
        self,
        client: Client,
        lora_name: str | None,
        *,
        mode: RouterMode = RouterMode.ROUND_ROBIN,
    ) -> None:
        self._client = client
        self._lora_name = lora_name
        self._mode = mode
        self.members: frozenset[int] = frozenset()

    def free(self) -> tuple[int, ...]:
        """The members that may get a request now."""
        return self._client.free(self.members)

    def exclusions(self) -> dict[int, str]:
        """Why each instance that gets no requests now does not, by id."""
        return self._client.exclusions()

    async def open(
        self,
        request: EngineRequest,
        context: Context,
        *,
        among: frozenset[int],
        moves: int | None = None,
    ) -> Response[EngineOutput]:
        """Send a request to one of the members; in router mode ``direct`` to the one it names.

        Args:
            request: The request.
            context: Its id and metadata.
            among: The members to choose among.
            moves: How often it may move from one to another before its first item.

        Raises:
            InvalidArgument: It names no instance in that mode, or one in another mode.
            MusterError: See ``Client.open``.
        """
        named = named_instance(request)
        if (self._mode is RouterMode.DIRECT) != (named is not None):
            raise InvalidArgument(
                "the request names no instance, and the router mode is direct"
                if named is None
                else f"the request names an instance, but the router mode is {self._mode}",
                hint=f"the header {INSTANCE_HEADER} goes with the router mode direct",
            )
        if self._lora_name is not None:
            routing = {**(request.routing or {}), "lora_name": self._lora_name}
            request = msgspec.structs.replace(request, routing=routing)
        mode = self._mode
        if named is not None:
            if named not in self.members:
                raise WorkerUnavailable(f"instance {named} does not serve {request.model!r}")
            mode, among = RouterMode.ROUND_ROBIN, self.members & {named}
        return await self._client.open(
            request, _OUTPUTS, context=context, mode=mode, among=among, moves=moves
        )


class ModelRoute:
    """All groups of one model: the same model served in several namespaces or at several endpoints.

    They share the requests in proportion to their instances that can take one. If a group's cannot
    be reached, or all are full, the others are tried. Requests of one session go to one instance as
    long as that can take them. A request whose instance is lost goes on at another one.

    Args:
        limits: How often requests may move.
        metrics: Where moves are counted.
    """

    __slots__ = ("_groups", "_limits", "_metrics", "_requests")

    def __init__(
        self, limits: MigrationLimits | None = None, metrics: MigrationMetrics | None = None
    ) -> None:
        self._limits = limits or MigrationLimits()
        self._metrics = metrics or MigrationMetrics()
        self._groups: dict[GroupKey, GroupRoute] = {}
        self._requests = count()

    def __len__(self) -> int:
        return len(self._groups)

    def put(self, key: GroupKey, route: GroupRoute) -> None:
        """Add a group."""
        self._groups[key] = route

    def drop(self, key: GroupKey) -> None:
        """Remove a group; a no-op if it is not there."""
        self._groups.pop(key, None)

    def free(self) -> set[int]:
        """The instances that may get a request now."""
        return {instance_id for group in self._groups.values() for instance_id in group.free()}

    def free_count(self) -> int:
        """How many instances may get a request now."""
        return sum(len(group.free()) for group in self._groups.values())

    async def generate(self, request: EngineRequest, *, context: Context) -> MovingStream:
        """Send a request; see ``muster.frontend.served_model.Generate``."""
        journey = Journey(request.mdc_sum or "")
        progress = Progress(request, self._limits)
        reopen = partial(self._open, context=context, journey=journey)
        response = await reopen(request, lost=frozenset(), moves=progress.moves_left)
        journey.taken_at = asyncio.get_running_loop().time()
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
        groups = self._in_order()
        if named is not None:
            groups = [group for group in groups if named in group.members] or groups[:1]
        failure: MusterError | None = None
        if session and named is None:
            chosen = self._of_session(session, request.model, lost, journey)
            for group in [each for each in groups if chosen in each.members][:1]:
                only = group.members & {chosen}
                try:
                    return await group.open(request, context, among=only, moves=0)
                except TRY_ELSEWHERE as error:
                    failure = error
                    lost |= only
                    journey.session = "away"
                    journey.lost.append(Leg(f"{chosen:x}", error.code))
        for group in groups:
            among = group.members - lost if lost else group.members
            if lost and not among:
                continue
            try:
                return await group.open(request, context, among=among, moves=moves)
            except TRY_ELSEWHERE as error:
                failure = failure or error
        raise failure or WorkerUnavailable(f"nobody else serves {request.model!r} now")

    def _of_session(
        self, session: str, model: str, lost: frozenset[int], journey: Journey
    ) -> int | None:
        """The instance for a session's request: its home, or the next to it if that cannot."""
        members = {each for group in self._groups.values() for each in group.members}
        free = self.free()
        home = home_of(session, model, members)
        chosen = home if home in free and home not in lost else home_of(session, model, free - lost)
        journey.session = "home" if chosen == home else "away"
        if chosen != home and home is not None:
            logger.info(
                "session is not at its instance",
                extra=facts(model=model, home=f"{home:x}", instance=f"{chosen or 0:x}"),
            )
        return chosen

    def _in_order(self) -> list[GroupRoute]:
        """The groups, beginning with the one whose turn it is."""
        groups = list(self._groups.values())
        if len(groups) < 2:
            return groups
        weights = [len(group.free()) for group in groups]
        total = sum(weights)
        turn = next(self._requests) % total if total else 0
        for index, weight in enumerate(weights):
            turn -= weight
            if turn < 0:
                return [*groups[index:], *groups[:index]]
        return groups


def card_mode(config: RouterConfig | None, default: RouterMode) -> RouterMode:
    """The router mode for the workers of a card: the card's own, if it has one we know.

    As in Dynamo 1.6.1, what a card says replaces what the frontend was told.
    """
    if config is None:
        return default
    try:
        return RouterMode.parse(config.router_mode)
    except MusterError as error:
        logger.warning(
            "a card's router mode is not supported: %s",
            error.message,
            extra=facts(wanted=str(config.router_mode), used=str(default)),
        )
        return default
