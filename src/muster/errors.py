"""Every exception that may leave a public call of Muster.

The tree, by whose fault it is::

    MusterError
    ├── ConfigError                 a setting, flag or argument is wrong
    ├── DiscoveryError              the registry refused, or could not be reached
    │   ├── ConflictError           the key exists and holds something else
    │   └── NotRegisteredError      the key to remove or update does not exist
    ├── CardError                   a model card (or model directory) cannot be read
    ├── ContentError                bytes are not what a card promised
    │   ├── DigestMismatchError     other bytes than the digest names
    │   ├── TooLargeError           more bytes than the cap allows
    │   ├── SourceError             no source gave the bytes (status, timeout)
    │   │   ├── SourceBusyError     it has no place free; it said when to ask again
    │   │   └── UntrustedSourceError  a place we were not told to believe
    │   └── StoreError              the cache's directory cannot be read or written
    ├── RequestError                the caller's request is at fault
    │   └── InvalidArgument         a value in it is
    ├── TransportError              the request plane could not carry it
    │   ├── CannotConnect           nobody listens at the instance's address
    │   ├── ConnectionTimeout       no answer in time while connecting or acknowledging
    │   ├── ResponseTimeout         accepted, then silence for longer than the setting allows
    │   ├── Disconnected            the stream's connection broke before its end
    │   ├── StreamIncomplete        the stream ended without its final frame
    │   ├── ProtocolError           bytes that are not the protocol
    │   ├── WorkerUnavailable       no instance, or the instance does not serve this endpoint
    │   └── Overloaded              every place is taken; try again later
    └── EngineError                 the engine failed while generating
        ├── EngineShutdown          it is going away
        ├── Cancelled               it was told to stop
        ├── HttpError               it answers with an HTTP status of its own
        └── Unknown                 it raised something without a more precise class

Names without the ``Error`` suffix are those of Dynamo's Python bindings, so that an ``except``
clause carries over. Every error has a stable ``code`` (a slug for logs, metrics and ``--json``) and
a ``hint``: what the reader can do about it.
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "CannotConnect",
    "CardError",
    "ConfigError",
    "ConflictError",
    "ConnectionTimeout",
    "ContentError",
    "DigestMismatchError",
    "Disconnected",
    "DiscoveryError",
    "EngineError",
    "EngineShutdown",
    "HttpError",
    "InvalidArgument",
    "MusterError",
    "NotRegisteredError",
    "Overloaded",
    "ProtocolError",
    "RequestError",
    "ResponseTimeout",
    "SourceBusyError",
    "SourceError",
    "StoreError",
    "StreamIncomplete",
    "TooLargeError",
    "TransportError",
    "Unknown",
    "UntrustedSourceError",
    "WorkerUnavailable",
]


class MusterError(Exception):
    """Root of all errors Muster raises.

    Args:
        message: What is wrong, and where.
        hint: What to do about it; empty when there is nothing useful to say.
    """

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def diagnostics(self) -> str:
        """The message and, on a second line, the hint if there is one."""
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class ConfigError(MusterError):
    """A setting, flag or argument is wrong."""

    code = "config"


class DiscoveryError(MusterError):
    """The registry refused, or could not be reached."""

    code = "discovery"


class ConflictError(DiscoveryError):
    """The key exists already and holds something else."""

    code = "conflict"


class NotRegisteredError(DiscoveryError):
    """The key to remove or update does not exist."""

    code = "not_registered"


class CardError(MusterError):
    """A model card, or the model directory it is made from, cannot be read."""

    code = "card"


class ContentError(MusterError):
    """Bytes are missing, or are not what the card promised."""

    code = "content"


class DigestMismatchError(ContentError):
    """The bytes hash to something else than the digest that names them."""

    code = "digest_mismatch"


class TooLargeError(ContentError):
    """More bytes than the cap allows."""

    code = "too_large"


class SourceError(ContentError):
    """A source did not give the bytes."""

    code = "source"


class SourceBusyError(SourceError):
    """A source has no place free at present.

    Args:
        message: What is wrong, and where.
        retry_after_s: When it wants to be asked again, in seconds.
    """

    code = "source_busy"

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class UntrustedSourceError(SourceError):
    """A place that the settings do not allow a card to send us to."""

    code = "untrusted"


class StoreError(ContentError):
    """The directory that keeps verified bytes cannot be read or written."""

    code = "store"


class RequestError(MusterError):
    """The caller's request is at fault."""

    code = "request"


class InvalidArgument(RequestError):
    """A value in the request is not acceptable."""

    code = "invalid_argument"


class TransportError(MusterError):
    """The request plane could not carry the request or its response."""

    code = "transport"


class CannotConnect(TransportError):
    """Nobody listens at the instance's address."""

    code = "cannot_connect"


class ConnectionTimeout(TransportError):
    """No answer in time while connecting, or waiting for the acknowledgement."""

    code = "connection_timeout"


class ResponseTimeout(TransportError):
    """The request was accepted, then nothing came for longer than the setting allows."""

    code = "response_timeout"


class Disconnected(TransportError):
    """The response stream's connection broke before its end."""

    code = "disconnected"


class StreamIncomplete(TransportError):
    """The response stream ended without its final frame."""

    code = "stream_incomplete"


class ProtocolError(TransportError):
    """The other side sent bytes that are not the protocol."""

    code = "protocol"


class WorkerUnavailable(TransportError):
    """There is no instance to send to, or the instance does not serve this endpoint."""

    code = "worker_unavailable"


class Overloaded(TransportError):
    """Every place on the worker is taken; try again later."""

    code = "overloaded"


class EngineError(MusterError):
    """The engine failed while generating."""

    code = "engine"


class EngineShutdown(EngineError):
    """The engine is going away."""

    code = "engine_shutdown"


class Cancelled(EngineError):
    """The engine was told to stop."""

    code = "cancelled"


class HttpError(EngineError):
    """The engine answers with an HTTP status of its own, as a proxy of another service does.

    Clients of the OpenAI API get this status, if it is one of an error, and the message.

    Args:
        status: From 0 to 599.
        message: For the client.

    Raises:
        ValueError: ``status`` is no HTTP status.
    """

    code = "http"

    def __init__(self, status: int, message: str, *, hint: str = "") -> None:
        if not 0 <= status < 600:
            raise ValueError(f"{status!r} is no HTTP status")
        super().__init__(message, hint=hint)
        self.status = status


class Unknown(EngineError):
    """The engine raised something that has no more precise class."""

    code = "unknown"
