"""Call an endpoint: choose an instance, send, and try another if it cannot be reached."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from muster.discovery.records import Instance
from muster.errors import WorkerUnavailable
from muster.names import EndpointId
from muster.runtime.calling.choosers import RouterMode
from muster.runtime.calling.in_flight import TRY_ELSEWHERE
from muster.runtime.calling.instance_source import InstanceSource
from muster.runtime.calling.items import Items
from muster.runtime.calling.response import Response, Sender
from muster.runtime.calling.runtime_data import CardsSaying, wait_for_cards
from muster.runtime.calling.selection import Selection
from muster.wire.context import Context
from muster.wire.items import FrameDecoder

__all__ = ["TRY_ELSEWHERE", "Client", "Items", "Sender"]

T = TypeVar("T")

DEFAULT_WAIT_S = 60.0
"""How long a client waits for instances when the caller does not say."""

_PLAIN: FrameDecoder[Any] = FrameDecoder(Any)


class Client:
    """Calls one endpoint.

    Made by ``Endpoint.client()``. Each client has its own round-robin counter; all clients of an
    endpoint in one process share what they know of its instances.
    """

    def __init__(
        self, endpoint: EndpointId, source: InstanceSource, sender: Sender, mode: RouterMode
    ) -> None:
        self._source = source
        self._sender = sender
        self._mode = mode
        self._selection = Selection(endpoint, source)

    # -- who is there ------------------------------------------------------------------------

    def instances(self) -> list[Instance]:
        """All discovered instances, sorted by path; also those that get no requests just now."""
        return [*self._source.set.instances()]

    def instance_ids(self) -> list[int]:
        """Ids of all discovered instances, sorted."""
        return sorted(self._source.set.members)

    def exclusions(self) -> dict[int, str]:
        """Why each discovered instance that gets no requests now does not, by id.

        It has a transport or address we cannot use, failed a short while ago, or is full.
        """
        return self._selection.exclusions()

    def in_flight(self) -> dict[int, int]:
        """How many requests of this process are under way, by instance; of all its clients."""
        return {key: load.count for key, load in self._source.set.loads.items()}

    def free(self, among: frozenset[int] | None = None) -> tuple[int, ...]:
        """Ids, sorted, that may get a request now: of all, or only those in ``among``."""
        return self._selection.free(among)

    async def wait_for_instances(self, timeout: float = DEFAULT_WAIT_S) -> list[int]:
        """Wait until an instance can get requests; returns the ids of those, sorted.

        One that is full at the moment counts.

        Args:
            timeout: Seconds to wait.

        Raises:
            WorkerUnavailable: None came in time; says who was seen and why they don't count.
        """
        try:
            async with asyncio.timeout(timeout):
                while not (routable := self._source.set.routable()):
                    await self._change_or_return()
        except TimeoutError:
            raise self._selection.nobody(when=f"within {timeout:g} s") from None
        return [*routable]

    async def _change_or_return(self) -> None:
        """Wait until the instances change, or one that was avoided may get requests again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._source.set.next_return()):
                await self._source.change()

    async def wait_for_instance_by_runtime_data(
        self, key: str, value: str, timeout_s: float | None = None
    ) -> int:
        """Wait until exactly one instance's model card has ``value`` in its runtime data.

        Args:
            key: Key in the card's ``runtime_config.runtime_data``.
            value: The text it has there.
            timeout_s: Seconds to wait; 60 by default.

        Returns:
            The instance's id.

        Raises:
            WorkerUnavailable: It was none in time, or more than one; says which.
            DiscoveryError: The registry cannot be read.
        """
        found = await self._with_cards(key, value, lambda ids: len(ids) == 1, "one", timeout_s)
        return found[0]

    async def wait_for_instances_by_runtime_data(
        self, key: str, value: str, min_count: int, timeout_s: float | None = None
    ) -> list[int]:
        """Wait until at least ``min_count`` instances' model cards have ``value``.

        Args:
            key: Key in the card's ``runtime_config.runtime_data``.
            value: The text it has there.
            min_count: How many there must be.
            timeout_s: Seconds to wait; 60 by default.

        Returns:
            The instances' ids, sorted.

        Raises:
            WorkerUnavailable: There were fewer in time; says which.
            DiscoveryError: The registry cannot be read.
        """
        what = f"at least {min_count}"
        return await self._with_cards(
            key, value, lambda ids: len(ids) >= min_count, what, timeout_s
        )

    async def _with_cards(
        self,
        key: str,
        value: str,
        is_enough: Callable[[list[int]], bool],
        what: str,
        timeout_s: float | None,
    ) -> list[int]:
        limit = DEFAULT_WAIT_S if timeout_s is None else timeout_s
        cards = CardsSaying(key, value)
        try:
            async with asyncio.timeout(limit):
                await wait_for_cards(
                    self._source.discovery, self._selection.endpoint, cards, is_enough
                )
        except TimeoutError:
            seen = ", ".join(f"{each:x}" for each in cards.ids()) or "none"
            raise WorkerUnavailable(
                f"not {what} of the instances of {self._selection.endpoint} had {key}={value} in "
                f"the runtime data of a card within {limit:g} s (seen: {seen})"
            ) from None
        return cards.ids()

    # -- calling -----------------------------------------------------------------------------

    async def generate(
        self, request: Any, annotated: bool = True, context: Context | None = None
    ) -> Items:
        """Send ``request`` to an instance chosen by the client's router mode.

        Args:
            request: Any value MessagePack and JSON can carry.
            annotated: Yield ``Annotated`` items (``.data()``) rather than their data alone.
            context: Stops or kills the request and carries its id and metadata.

        Raises:
            WorkerUnavailable: There is no instance, or none serves this endpoint.
            Overloaded: Every instance refused for want of room.
            CannotConnect: No instance could be reached (also ``ConnectionTimeout``).
            InvalidArgument: The request cannot be encoded, or the worker found it malformed.
        """
        return await self._items(request, annotated, context, mode=self._mode)

    async def round_robin(
        self, request: Any, annotated: bool = True, context: Context | None = None
    ) -> Items:
        """Send ``request`` to the instances in turn; see ``generate``."""
        return await self._items(request, annotated, context, mode=RouterMode.ROUND_ROBIN)

    async def random(
        self, request: Any, annotated: bool = True, context: Context | None = None
    ) -> Items:
        """Send ``request`` to an instance chosen at random; see ``generate``."""
        return await self._items(request, annotated, context, mode=RouterMode.RANDOM)

    async def direct(
        self,
        request: Any,
        instance_id: int,
        annotated: bool = True,
        context: Context | None = None,
    ) -> Items:
        """Send ``request`` to this instance and no other; see ``generate``."""
        context = context or Context()
        response = Response(
            self._selection, self._sender, request, _PLAIN, context, only=instance_id
        )
        return await Items.of(response, context, annotated=annotated)

    async def _items(
        self, request: Any, annotated: bool, context: Context | None, *, mode: RouterMode
    ) -> Items:
        context = context or Context()
        response = Response(self._selection, self._sender, request, _PLAIN, context, mode=mode)
        return await Items.of(response, context, annotated=annotated)

    async def open(
        self,
        request: Any,
        decoder: FrameDecoder[T],
        *,
        context: Context,
        mode: RouterMode | None = None,
        among: frozenset[int] | None = None,
        moves: int | None = None,
    ) -> Response[T]:
        """Send ``request`` and return its response once a worker runs it; for fast consumers.

        An instance that cannot be reached is avoided for a while, and the others are tried, until
        the first item has been read. The context's id and metadata travel; stopping the context
        does not reach the response.

        Args:
            request: As in ``generate``.
            decoder: Decodes the items.
            context: The request's id and metadata.
            mode: Router mode; the client's by default.
            among: Choose among these instance ids only.
            moves: How many others may be asked before the first item; all, if left out.

        Raises:
            MusterError: As ``generate``.
        """
        response = Response(
            self._selection,
            self._sender,
            request,
            decoder,
            context,
            mode=mode or self._mode,
            among=among,
            moves=moves,
        )
        await response.open()
        return response
