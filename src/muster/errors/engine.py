"""What goes wrong in an engine, or is its own answer."""

from __future__ import annotations

from muster.errors.base import MusterError
from muster.errors.error_class import ErrorClass

__all__ = ["Cancelled", "EngineError", "EngineShutdown", "HttpError", "Unimplemented", "Unknown"]


class EngineError(MusterError):
    """The engine failed while generating."""

    code = "engine"


class EngineShutdown(EngineError):
    """The engine is going away."""

    code = "engine_shutdown"
    error_class = ErrorClass.UNAVAILABLE


class Cancelled(EngineError):
    """The engine was told to stop."""

    code = "cancelled"
    error_class = ErrorClass.CANCELLED


class Unimplemented(EngineError):
    """The engine cannot do what a well-formed request asks."""

    code = "unimplemented"
    error_class = ErrorClass.NOT_IMPLEMENTED


class HttpError(EngineError):
    """The engine answers with an HTTP status of its own, as a proxy of another service does.

    Clients of the OpenAI API get this status, if it is one of an error, and the message. As of
    every error here, ``code`` is the slug: the number is ``status`` (Dynamo's has it in ``code``).

    Args:
        code: The HTTP status, from 0 to 599; it decides the ``error_class``.
        message: For the client. More than 8192 characters are cut, and end in ``...`` then.

    Raises:
        ValueError: ``code`` is no HTTP status.
    """

    code = "http"

    def __init__(self, code: int, message: str, *, hint: str = "") -> None:
        if not _is_status(code):
            raise ValueError(f"{code!r} is no HTTP status")
        message = str(message)
        if len(message) > _HTTP_MESSAGE_LIMIT:
            message = f"{message[: _HTTP_MESSAGE_LIMIT - 3]}..."
        super().__init__(message, hint=hint)
        self.status = code
        self.error_class = ErrorClass.of_status(code)


_HTTP_MESSAGE_LIMIT = 8192


def _is_status(code: object) -> bool:
    return isinstance(code, int) and not isinstance(code, bool) and 0 <= code < 600


class Unknown(EngineError):
    """The engine raised something that has no more precise class."""

    code = "unknown"
