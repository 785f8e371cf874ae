"""Errors as clients of the OpenAI API see them, and what each of Muster's errors becomes there.

One shape on every route: ``{"error": {"message", "type", "param", "code"}}``. Clients choose their
exception by the status; people read the message, so it says what to do.
"""

from __future__ import annotations

import msgspec

from muster.errors import HttpError, MusterError, RequestError

__all__ = ["ApiError", "model_not_found", "model_not_served"]

_RETRY_AFTER_S = 1


class _Detail(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


class _Body(msgspec.Struct, frozen=True):
    error: _Detail


_encode = msgspec.json.Encoder().encode

_ERROR_TYPES = {
    404: "not_found",
    499: "cancelled",
    501: "not_implemented",
    503: "unavailable",
    504: "response_timeout",
    529: "overload",
}
"""Values of the metric label ``error_type``; otherwise ``validation`` or ``internal``."""

_RETRYABLE = frozenset({429, 503, 529})


class ApiError(MusterError):
    """A request is answered with an error.

    Args:
        status: HTTP status.
        message: For people.
        param: The request's field at fault, if one is.
        slug: Stable code for programs.
        headers: Further response headers.

    Attributes:
        model: The name a request gave, where no model of that name is served; for the log.
    """

    code = "api"

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        slug: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.slug = slug
        self.headers = dict(headers or {})
        self.model = ""
        if status in _RETRYABLE:
            self.headers.setdefault("retry-after", str(_RETRY_AFTER_S))

    @property
    def type(self) -> str:
        """OpenAI's error class: whose fault it is."""
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 499 else "server_error"

    @property
    def error_type(self) -> str:
        """Dynamo's word for it in metrics."""
        return _ERROR_TYPES.get(self.status) or ("validation" if self.status < 500 else "internal")

    def body(self) -> bytes:
        """The JSON object, also sent as an event once a stream has started."""
        return _encode(_Body(_Detail(self.message, self.type, self.param, self.slug)))

    @classmethod
    def from_error(cls, error: MusterError) -> ApiError:
        """The answer to a request that failed with ``error``; its own text is passed on.

        Its ``error_class`` decides the status, except that an ``HttpError`` brings its own, if it
        is one of an error.
        """
        if isinstance(error, ApiError):
            return error
        if isinstance(error, HttpError) and error.status >= 400:
            status = error.status
        else:
            status = error.error_class.status
        message = error.message
        if error.hint and isinstance(error, RequestError):
            # Hints of other errors are for who runs the service: they are in the log.
            message = f"{message} ({error.hint})"
        return cls(status, message, slug=error.code)


def model_not_found(name: str, known: list[str]) -> ApiError:
    """The model asked for does not exist; the message lists those that do."""
    if known:
        some = ", ".join(f"`{other}`" for other in known[:10])
        rest = f" and {len(known) - 10} more" if len(known) > 10 else ""
        about = f"available: {some}{rest}"
    else:
        about = "no model is being served yet"
    message = f"The model `{name}` does not exist; {about}"
    return _about_model(name, ApiError(404, message, param="model", slug="model_not_found"))


def model_not_served(name: str, state: str, reason: str, message: str) -> ApiError:
    """The model is registered but cannot be served (yet)."""
    text = f"The model `{name}` is registered but not served: {state}"
    text += f" ({reason})" if reason else ""
    text += f": {message}" if message else ""
    return _about_model(name, ApiError(503, text, param="model", slug="model_not_ready"))


def _about_model(name: str, error: ApiError) -> ApiError:
    error.model = name
    return error
