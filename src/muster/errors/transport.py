"""What goes wrong between a request's caller and its worker."""

from __future__ import annotations

from muster.errors.base import MusterError
from muster.errors.error_class import ErrorClass

__all__ = [
    "CannotConnect",
    "ConnectionTimeout",
    "Disconnected",
    "Overloaded",
    "ProtocolError",
    "ResponseTimeout",
    "RouterQueueLimitExceeded",
    "SelectionServiceError",
    "StreamIncomplete",
    "TransportError",
    "WorkerUnavailable",
]


class TransportError(MusterError):
    """The request plane could not carry the request or its response."""

    code = "transport"
    error_class = ErrorClass.UNAVAILABLE


class CannotConnect(TransportError):
    """Nobody listens at the instance's address."""

    code = "cannot_connect"


class ConnectionTimeout(TransportError):
    """No answer in time while connecting, or waiting for the acknowledgement."""

    code = "connection_timeout"
    error_class = ErrorClass.DEADLINE_EXCEEDED


class ResponseTimeout(TransportError):
    """The request was accepted, then nothing came for longer than the setting allows."""

    code = "response_timeout"
    error_class = ErrorClass.DEADLINE_EXCEEDED


class Disconnected(TransportError):
    """The response stream's connection broke before its end."""

    code = "disconnected"


class StreamIncomplete(TransportError):
    """The response stream ended without its final frame."""

    code = "stream_incomplete"


class ProtocolError(TransportError):
    """The other side sent bytes that are not the protocol."""

    code = "protocol"
    error_class = ErrorClass.BACKEND_PROTOCOL


class WorkerUnavailable(TransportError):
    """There is no instance to send to, or the instance does not serve this endpoint."""

    code = "worker_unavailable"


class Overloaded(TransportError):
    """Every place on the worker is taken; try again later."""

    code = "overloaded"
    error_class = ErrorClass.CAPACITY_EXHAUSTED


class RouterQueueLimitExceeded(Overloaded):
    """A router's queue for this class of requests is full.

    Args:
        message: What is wrong, and where.
        policy_class: The class of requests.
        limit_kind: What is limited.
        current: How much of that there is.
        limit: How much there may be.
    """

    code = "router_queue_limit"

    def __init__(
        self,
        message: str = "",
        *,
        policy_class: str = "",
        limit_kind: str = "",
        current: int = 0,
        limit: int = 0,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.policy_class = policy_class
        self.limit_kind = limit_kind
        self.current = current
        self.limit = limit


class SelectionServiceError(TransportError):
    """A selection service could not choose an instance.

    Args:
        message: What is wrong, and where.
        kind: Its word for it, such as ``not_ready``.
        status_code: The HTTP status that says the same; it decides the ``error_class``.
    """

    code = "selection_service"

    def __init__(
        self, message: str = "", *, kind: str = "", status_code: int = 503, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        self.status_code = status_code
        self.error_class = ErrorClass.of_status(status_code)
