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
    │   ├── InvalidArgument         a value in it is
    │   ├── Unauthenticated         it does not say who asks, or that is not believed
    │   ├── PermissionDenied        who asks may not
    │   ├── NotFound                what it asks for does not exist
    │   ├── Conflict                it contradicts what is there
    │   ├── PayloadTooLarge         it is larger than allowed
    │   ├── UnsupportedMedia        it holds a kind of content nobody here reads
    │   └── RateLimited             its sender asks too often
    ├── TransportError              the request plane could not carry it
    │   ├── CannotConnect           nobody listens at the instance's address
    │   ├── ConnectionTimeout       no answer in time while connecting or acknowledging
    │   ├── ResponseTimeout         accepted, then silence for longer than the setting allows
    │   ├── Disconnected            the stream's connection broke before its end
    │   ├── StreamIncomplete        the stream ended without its final frame
    │   ├── ProtocolError           bytes that are not the protocol
    │   ├── WorkerUnavailable       no instance, or the instance does not serve this endpoint
    │   ├── SelectionServiceError   no instance could be chosen
    │   └── Overloaded              every place is taken; try again later
    │       └── RouterQueueLimitExceeded  the router's queue for its class is full
    └── EngineError                 the engine failed while generating
        ├── EngineShutdown          it is going away
        ├── Cancelled               it was told to stop
        ├── Unimplemented           it cannot do what was asked
        ├── HttpError               it answers with an HTTP status of its own
        └── Unknown                 it raised something without a more precise class

The names of Dynamo's Python bindings are here, ``DynamoException`` among them as another name of
``MusterError``, so that an ``except`` clause carries over. It catches more here: ``HttpError``,
which is no ``DynamoException`` there, and what the transport reports, which there is a plain
``Exception`` or ``ValueError``.

Every error has a stable ``code`` (a slug for logs, metrics and ``--json``), a ``hint`` (what the
reader can do about it) and an ``error_class``: one of the fifteen classes that travel between
processes. An error that another process reported has that process's words for it besides: a
``reason`` and the ``failure`` as it arrived; raised on unchanged, it reaches the next process as it
reached this one. They can be pickled and copied.
"""

from __future__ import annotations

from muster.errors.base import (
    DynamoException,
    MusterError,
)
from muster.errors.content import (
    CardError,
    ContentError,
    DigestMismatchError,
    SourceBusyError,
    SourceError,
    StoreError,
    TooLargeError,
    UntrustedSourceError,
)
from muster.errors.engine import (
    Cancelled,
    EngineError,
    EngineShutdown,
    HttpError,
    Unimplemented,
    Unknown,
)
from muster.errors.request import (
    Conflict,
    InvalidArgument,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    RateLimited,
    RequestError,
    Unauthenticated,
    UnsupportedMedia,
)
from muster.errors.setup import (
    ConfigError,
    ConflictError,
    DiscoveryError,
    NotRegisteredError,
)
from muster.errors.transport import (
    CannotConnect,
    ConnectionTimeout,
    Disconnected,
    Overloaded,
    ProtocolError,
    ResponseTimeout,
    RouterQueueLimitExceeded,
    SelectionServiceError,
    StreamIncomplete,
    TransportError,
    WorkerUnavailable,
)

__all__ = [
    "Cancelled",
    "CannotConnect",
    "CardError",
    "ConfigError",
    "Conflict",
    "ConflictError",
    "ConnectionTimeout",
    "ContentError",
    "DigestMismatchError",
    "Disconnected",
    "DiscoveryError",
    "DynamoException",
    "EngineError",
    "EngineShutdown",
    "HttpError",
    "InvalidArgument",
    "MusterError",
    "NotFound",
    "NotRegisteredError",
    "Overloaded",
    "PayloadTooLarge",
    "PermissionDenied",
    "ProtocolError",
    "RateLimited",
    "RequestError",
    "ResponseTimeout",
    "RouterQueueLimitExceeded",
    "SelectionServiceError",
    "SourceBusyError",
    "SourceError",
    "StoreError",
    "StreamIncomplete",
    "TooLargeError",
    "TransportError",
    "Unauthenticated",
    "Unimplemented",
    "Unknown",
    "UnsupportedMedia",
    "UntrustedSourceError",
    "WorkerUnavailable",
]
