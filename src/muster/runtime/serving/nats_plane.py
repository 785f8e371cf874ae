"""Taking requests over NATS, as the runtime sees it."""

from __future__ import annotations

from muster.discovery.records import Transport, TransportType
from muster.names import EndpointId
from muster.wire.dispatch import Dispatcher
from muster.wire.nats.connection import NatsConnection
from muster.wire.nats.server import NatsServer, subject_of

__all__ = ["NatsPlane"]


class NatsPlane:
    """See ``muster.runtime.serving.planes.RequestServer``.

    Args:
        connection: The process's.
        dispatcher: Takes the requests, each endpoint under its subject.
    """

    def __init__(self, connection: NatsConnection, dispatcher: Dispatcher) -> None:
        self._server = NatsServer(connection, dispatcher)

    async def listen(self, endpoint: EndpointId, instance_id: int) -> tuple[Transport, str]:
        """Subscribe; the component's service is known when this returns."""
        subject = subject_of(endpoint, instance_id)
        await self._server.listen(endpoint, subject)
        return Transport(TransportType.NATS_TCP.value, subject), subject

    async def leave(self, path: str) -> None:
        """Take no more requests on that subject."""
        await self._server.leave(path)

    def stop_accepting(self) -> None:
        """There are no connections to refuse."""

    async def close(self) -> None:
        """Leave every subject."""
        await self._server.close()
