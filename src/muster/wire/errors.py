"""Failures on the wire and as exceptions, read both ways.

A failure travels as ``error_type`` (a name, or ``{"Backend": name}``), a ``class``, a ``reason``, a
message, a diagnostic and, if clients may read it, its ``public`` part. Every failure is exactly one
exception here; one that arrived and is raised on leaves as it came. ``error_table`` holds the facts.
"""

from __future__ import annotations

import bisect
import contextlib
from typing import Annotated, Any

import msgspec

from muster import errors
from muster.errors.error_class import ErrorClass
from muster.wire.error_table import INVALID, KINDS, REASONS, WRITTEN_AS, Kind, kind_of

__all__ = ["TEXT_LIMIT", "WireError", "exception_from", "wire_error_from"]

TEXT_LIMIT = 4096
"""Bytes of UTF-8 that a message or a diagnostic may have; what is longer is cut, as the peer does."""

_CUT = "...[truncated]"
_GOING_AWAY = (GeneratorExit, SystemExit, KeyboardInterrupt)


class WireError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A failure as it travels; what is ``None`` is left out. Field order is the peer's."""

    error_type: Any = None
    class_: str | None = msgspec.field(default=None, name="class")
    reason: str | None = None
    message: str | None = None
    diagnostic: str | None = None
    public: Any = None
    """What a client may be told; left out, a Dynamo frontend tells it no more than the class.
    ``{"type": "message", "message": text}``, or limits with numbers.
    """
    caused_by: Any = None
    """Another failure, on which this one rests. Carried along, not read."""

    def settled(self) -> WireError:
        """The same failure as a 1.6.1 process would pass it on: complete and consistent.

        What is left out follows from the rest. A class or reason that is not in the catalogue, or
        the one not of the other, makes it ``Internal`` / ``runtime.invalid_error`` without a public
        part. Texts are cut at ``TEXT_LIMIT``. Settling twice changes nothing.
        """
        return _settle(self)[0]


class _HttpMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the message of an ``HttpError`` holds, as JSON text."""

    message: str
    code: Annotated[int, msgspec.Meta(ge=0, lt=600)]


_http_message = msgspec.json.Decoder(_HttpMessage).decode


def wire_error_from(error: BaseException) -> WireError:
    """The failure that tells the other side about ``error``.

    - One that arrived from another process (``error.failure``) leaves as it came.
    - Ours travel by their class with their message alone.
    - Any other travels by its nearest kind, with its type's name before its text, as the peer's do.
    - A group of one exception is that exception: what a ``TaskGroup`` of a handler raises.
    - ``GeneratorExit``, ``SystemExit`` and ``KeyboardInterrupt`` are an engine going away; their
      text stays here. (``SystemExit`` and ``KeyboardInterrupt`` end the loop they are raised on, so
      a caller usually sees its connection end instead, of us as of the peer.)

    Never raises, whatever ``str(error)`` does.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, errors.MusterError) and isinstance(error.failure, WireError):
        return error.failure
    if isinstance(error, errors.HttpError):
        return _written(str(ErrorClass.of_status(error.status)), _http_text(error))
    text = _cut(_text_of(error))
    is_public = isinstance(error, errors.RequestError)  # written for the client to read
    return _written(
        kind_of(error), text, public={"type": "message", "message": text} if is_public else None
    )


def exception_from(error: WireError) -> errors.MusterError:
    """The exception that stands for a failure that arrived.

    Its ``error_class``, ``reason`` and ``failure`` are the settled failure's. Its message is the
    public text if there is one, then the diagnostic, the message, the reason.
    """
    settled, kind = _settle(error)
    text = settled.diagnostic or settled.message or settled.reason or ""
    made: errors.MusterError | None = None
    if isinstance(settled.error_type, str) and kind is not INVALID and text.startswith("{"):
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            told = _http_message(text)
            made = errors.HttpError(told.code, told.message)
    if made is None:
        made = kind.exception(_public_text(settled.public) or text)
    made.error_class = kind.error_class
    made.reason = settled.reason or ""
    made.failure = settled
    return made


def _settle(error: WireError) -> tuple[WireError, Kind]:
    """The failure as it may travel on, and its kind."""
    named = _kind_name(error.error_type)
    meant = KINDS.get(named)
    declared = meant if error.class_ is None else _CLASSES.get(error.class_)
    reason = error.reason
    if reason is None and declared is not None:
        reason = (meant if meant is not None and error.error_type is not None else declared).reason
    message = error.message if error.message is not None else error.diagnostic
    settled = WireError(
        message=_cut(message or ""),
        diagnostic=None if error.diagnostic is None else _cut(error.diagnostic),
        caused_by=error.caused_by,
    )
    if declared is None or reason is None or REASONS.get(reason) is not declared.error_class:
        return _identified(settled, "Unknown", INVALID.error_class, INVALID.reason), INVALID
    kind = str(declared.error_class)
    if named != "Unknown" and meant is not None and meant.error_class is declared.error_class:
        kind = named
    settled = msgspec.structs.replace(settled, public=error.public)
    return _identified(settled, kind, declared.error_class, reason), KINDS[kind]


_CLASSES = {
    name: kind
    for name, kind in KINDS.items()
    if name != "Unknown" and not name.startswith("Backend.")
}
"""What may stand as ``class``: also the older names, each of which means one."""


def _identified(error: WireError, kind: str, error_class: ErrorClass, reason: str) -> WireError:
    written = WRITTEN_AS.get(kind, kind)
    backend = written.removeprefix("Backend.")
    return msgspec.structs.replace(
        error,
        error_type=written if backend == written else {"Backend": backend},
        class_=str(error_class),
        reason=reason,
    )


def _kind_name(error_type: Any) -> str:
    """The kind an ``error_type`` names; not one of ``KINDS`` if it is not of a form we know."""
    if isinstance(error_type, dict):
        return f"Backend.{error_type.get('Backend')}"
    if error_type is None or (isinstance(error_type, str) and error_type not in _CLASSES):
        return "Unknown"
    return str(error_type)


def _written(kind: str, text: str, public: Any = None) -> WireError:
    found = KINDS[kind]
    error = WireError(message=text, diagnostic=text, public=public)
    return _identified(error, kind, found.error_class, found.reason)


def _public_text(public: Any) -> str:
    if isinstance(public, dict) and public.get("type") == "message":
        text = public.get("message")
        return text if isinstance(text, str) else ""
    return ""


def _text_of(error: BaseException) -> str:
    """What an exception says, fit for the wire: no lone surrogates, and no failure of its own."""
    if isinstance(error, _GOING_AWAY):
        return "engine shutting down"
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a foreign __str__ may raise anything
        text = "<exception str() failed>"
    text = _clean(text)
    return text if isinstance(error, errors.MusterError) else f"{type(error).__name__}: {text}"


def _clean(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _http_text(error: errors.HttpError) -> str:
    """The JSON text of status and message; a message too long for it is cut, the JSON kept whole."""
    message = _clean(error.message)

    def encoded(text: str) -> bytes:
        return msgspec.json.encode(_HttpMessage(text, error.status))

    whole = encoded(message)
    if len(whole) > TEXT_LIMIT:
        fitting = bisect.bisect_right(
            range(len(message)), TEXT_LIMIT, key=lambda n: len(encoded(f"{message[:n]}..."))
        )
        whole = encoded(f"{message[: fitting - 1]}...")
    return whole.decode()


def _cut(text: str) -> str:
    """At most ``TEXT_LIMIT`` bytes, whole characters, and a mark where more was."""
    data = text.encode()
    if len(data) <= TEXT_LIMIT:
        return text
    return data[: TEXT_LIMIT - len(_CUT)].decode("utf-8", "ignore") + _CUT
