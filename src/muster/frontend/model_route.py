"""Where a model's requests go: the instances of its groups, through the request plane."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import msgspec

from muster.errors import InvalidArgument, MusterError, WorkerUnavailable
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.model.catalog.group import GroupKey
from muster.runtime import Client, Context, RouterMode
from muster.runtime.calling.client import TRY_ELSEWHERE
from muster.runtime.calling.response import Response
from muster.wire.control import FrameDecoder

__all__ = [
    "INSTANCE_HEADER",
    "INSTANCE_KEY",
    "EngineStream",
    "GroupRoute",
    "ModelRoute",
    "named_instance",
]

_OUTPUTS: FrameDecoder[EngineOutput] = FrameDecoder(EngineOutput)


INSTANCE_HEADER = "x-dynamo-worker-instance-id"
"""Header by which a client names the instance; Dynamo's."""
INSTANCE_KEY = "backend_instance_id"
"""The same in a request's routing."""


def named_instance(request: EngineRequest) -> int | None:
    """The instance a request wants, if it names one."""
    return request.routing.get(INSTANCE_KEY) if request.routing else None


class EngineStream:
    """The engine's items of a response stream; see ``muster.frontend.engine_stream``."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Response[EngineOutput]) -> None:
        self._stream = stream

    async def batch(self) -> Sequence[EngineOutput]:
        """All items that have arrived, at least one; empty at the clean end."""
        while items := await self._stream.batch():
            outputs = [item.payload for item in items if item.payload is not None]
            if outputs:
                return outputs
        return ()

    def kill(self) -> None:
        """Drop the response."""
        self._stream.kill()


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

    def free_count(self) -> int:
        """How many of the members may get a request now."""
        return len(self._client.free(self.members))

    def exclusions(self) -> dict[int, str]:
        """Why each instance that gets no requests now does not, by id."""
        return self._client.exclusions()

    async def open(self, request: EngineRequest, context: Context) -> EngineStream:
        """Send a request to one of the members; in router mode ``direct`` to the one it names.

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
        mode, among = self._mode, self.members
        if named is not None:
            if named not in self.members:
                raise WorkerUnavailable(f"instance {named} does not serve {request.model!r}")
            mode, among = RouterMode.ROUND_ROBIN, self.members & {named}
        stream = await self._client.open(request, _OUTPUTS, context=context, mode=mode, among=among)
        return EngineStream(stream)


class ModelRoute:
    """All groups of one model: the same model served in several namespaces or at several endpoints.

    They share the requests in proportion to their instances that can take one. If a group's cannot
    be reached, or all are full, the others are tried.
    """

    __slots__ = ("_groups", "_requests")

    def __init__(self) -> None:
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

    def free_count(self) -> int:
        """How many instances may get a request now."""
        return sum(group.free_count() for group in self._groups.values())

    async def generate(self, request: EngineRequest, *, context: Context) -> EngineStream:
        """Send a request; see ``muster.frontend.served_model.Generate``."""
        groups = self._in_order()
        named = named_instance(request)
        if named is not None:
            groups = [group for group in groups if named in group.members] or groups[:1]
        failure: MusterError | None = None
        for group in groups:
            try:
                return await group.open(request, context)
            except TRY_ELSEWHERE as error:
                failure = failure or error
        raise failure or WorkerUnavailable(f"nobody serves {request.model!r} any more")

    def _in_order(self) -> list[GroupRoute]:
        """The groups, beginning with the one whose turn it is."""
        groups = list(self._groups.values())
        if len(groups) < 2:
            return groups
        weights = [group.free_count() for group in groups]
        total = sum(weights)
        turn = next(self._requests) % total if total else 0
        for index, weight in enumerate(weights):
            turn -= weight
            if turn < 0:
                return [*groups[index:], *groups[:index]]
        return groups
