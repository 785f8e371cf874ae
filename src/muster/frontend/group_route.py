"""One group of a model's workers: who they are, and how a request is sent to one of them."""

from __future__ import annotations

from typing import Any

import msgspec

from muster.errors import InvalidArgument, WorkerUnavailable
from muster.frontend.guard.busy import Capacity
from muster.llm.embedding import EmbeddingOutput, EmbeddingRequest, TextEmbeddingRequest
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.runtime import Client, Context, RouterMode
from muster.runtime.calling.response import Response
from muster.wire.items import FrameDecoder

__all__ = ["INSTANCE_HEADER", "INSTANCE_KEY", "GroupRoute", "named_instance"]

_OUTPUTS: FrameDecoder[EngineOutput] = FrameDecoder(EngineOutput)
_EMBEDDINGS: FrameDecoder[Any] = FrameDecoder(EmbeddingOutput)
_OTHERS = {EmbeddingRequest: _EMBEDDINGS, TextEmbeddingRequest: _EMBEDDINGS}
"""How answers to other requests than for generation are read, by the type of the request."""


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
        capacity: What each of its instances can hold, by the card.

    Attributes:
        members: The group's instances.
        capacity: As given.
    """

    __slots__ = ("_client", "_lora_name", "_mode", "capacity", "members")

    def __init__(
        self,
        client: Client,
        lora_name: str | None,
        *,
        mode: RouterMode = RouterMode.ROUND_ROBIN,
        capacity: Capacity | None = None,
    ) -> None:
        self._client = client
        self.capacity = capacity or Capacity()
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
        decoder = _OTHERS.get(type(request), _OUTPUTS)
        return await self._client.open(
            request, decoder, context=context, mode=mode, among=among, moves=moves
        )
