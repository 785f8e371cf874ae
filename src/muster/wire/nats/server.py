"""The worker's end of the request plane over NATS.

Each endpoint's instance has a subject of its own. The component's service is made known as NATS
services are (``$SRV.PING``, ``INFO``, ``STATS``) before anything of it is in the registry.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import nats.errors
import nats.micro
import nats.micro.service
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from muster.errors import DiscoveryError
from muster.names import EndpointId, slugify
from muster.wire.dispatch import Dispatcher
from muster.wire.nats.connection import NatsConnection

__all__ = ["NatsServer", "subject_of"]

logger = logging.getLogger(__name__)

_QUEUE = "q"
_SERVICE_VERSION = "0.0.1"
_WAIT_S = 5.0


def subject_of(endpoint: EndpointId, instance_id: int) -> str:
    """The subject of an endpoint's instance: ``<slug of ns_component>.<endpoint>-<hex id>``."""
    return f"{_service_name(endpoint)}.{endpoint.name}-{instance_id:x}"


def _service_name(endpoint: EndpointId) -> str:
    return slugify(f"{endpoint.namespace}_{endpoint.component}")


class NatsServer:
    """Takes requests for the endpoints it is told of; what comes is the dispatcher's.

    Args:
        connection: The process's.
        dispatcher: Takes the requests; serves each endpoint under its subject.
    """

    def __init__(self, connection: NatsConnection, dispatcher: Dispatcher) -> None:
        self._connection = connection
        self._dispatcher = dispatcher
        self._subscriptions: dict[str, Subscription] = {}
        self._services: dict[str, Any] = {}
        self._lock = asyncio.Lock()

    async def listen(self, endpoint: EndpointId, subject: str) -> None:
        """Make the component's service known and take requests on ``subject``.

        Returns when the server has both.

        Raises:
            CannotConnect: NATS cannot be reached.
            DiscoveryError: It refuses.
        """
        client = await self._connection.client()
        name = _service_name(endpoint)
        try:
            async with asyncio.timeout(_WAIT_S), self._lock:
                if name not in self._services:
                    config = nats.micro.service.ServiceConfig(name=name, version=_SERVICE_VERSION)
                    self._services[name] = await nats.micro.add_service(client, config)
                self._subscriptions[subject] = await client.subscribe(
                    subject, queue=_QUEUE, cb=self._received
                )
                await client.flush()
        except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
            await self.leave(subject)
            raise DiscoveryError(
                f"NATS at {self._connection.servers} does not take the endpoint {endpoint}: "
                f"{str(error) or 'no answer'}"
            ) from error

    async def _received(self, message: Msg) -> None:
        headers = msgspec.json.encode(message.headers or {})
        text = self._dispatcher.accept(message.subject.encode(), headers, message.data)
        if message.reply:
            try:
                await message.respond(text)
            except (nats.errors.Error, OSError) as error:
                logger.warning("an acknowledgement could not be sent: %s", error)

    async def leave(self, subject: str) -> None:
        """Take no more requests on ``subject``; idempotent."""
        subscription = self._subscriptions.pop(subject, None)
        if subscription is None:
            return
        try:
            async with asyncio.timeout(_WAIT_S):
                await subscription.unsubscribe()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            logger.warning("leaving %s failed: %s", subject, error)

    async def close(self) -> None:
        """Leave every subject and take the services back."""
        for subject in [*self._subscriptions]:
            await self.leave(subject)
        services, self._services = self._services, {}
        for service in services.values():
            try:
                async with asyncio.timeout(_WAIT_S):
                    await service.stop()
            except (nats.errors.Error, OSError, TimeoutError) as error:
                logger.warning("taking a service back failed: %s", error)
