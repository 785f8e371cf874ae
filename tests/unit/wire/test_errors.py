"""Failures keep their meaning across the wire."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from muster import errors
from muster.wire.errors import WireError, exception_from, wire_error_from


@pytest.mark.parametrize(
    ("error", "name", "class_", "message"),
    [
        (ValueError("boom"), "InvalidArgument", "InvalidRequest", "ValueError: boom"),
        (TypeError("boom"), "InvalidArgument", "InvalidRequest", "TypeError: boom"),
        (RuntimeError("boom"), "Unknown", "Internal", "RuntimeError: boom"),
        (KeyError("boom"), "Unknown", "Internal", "KeyError: 'boom'"),
        (TimeoutError("boom"), "ConnectionTimeout", "DeadlineExceeded", "TimeoutError: boom"),
        (ConnectionError("boom"), "Disconnected", "Unavailable", "ConnectionError: boom"),
        (asyncio.CancelledError(), "Cancelled", "Cancelled", "CancelledError: "),
        (errors.InvalidArgument("boom"), "InvalidArgument", "InvalidRequest", "boom"),
        (errors.EngineShutdown("boom"), "EngineShutdown", "Unavailable", "boom"),
    ],
)
def test_exceptions_travel_as_the_peer_sends_them(
    error: BaseException, name: str, class_: str, message: str
) -> None:
    wire = wire_error_from(error)
    assert wire.error_type == {"Backend": name}
    assert (wire.class_, wire.message, wire.diagnostic) == (class_, message, message)


def test_the_json_is_the_peers() -> None:
    assert msgspec.json.encode(wire_error_from(ValueError("boom"))) == (
        b'{"error_type":{"Backend":"InvalidArgument"},"class":"InvalidRequest",'
        b'"reason":"backend.invalid_argument","message":"ValueError: boom",'
        b'"diagnostic":"ValueError: boom"}'
    )


@pytest.mark.parametrize(
    "kind",
    [
        errors.InvalidArgument,
        errors.CannotConnect,
        errors.Disconnected,
        errors.ConnectionTimeout,
        errors.ResponseTimeout,
        errors.Cancelled,
        errors.EngineShutdown,
        errors.StreamIncomplete,
        errors.WorkerUnavailable,
        errors.Unknown,
    ],
)
def test_our_exceptions_come_back_as_themselves(kind: type[errors.MusterError]) -> None:
    back = exception_from(wire_error_from(kind("why")))
    assert type(back) is kind
    assert back.message == "why"


def test_the_plain_text_form_of_a_type_is_read_too() -> None:
    assert isinstance(
        exception_from(WireError(error_type="WorkerUnavailable", message="m")),
        errors.WorkerUnavailable,
    )


def test_a_type_nobody_knows_is_an_engine_error_with_its_text() -> None:
    back = exception_from(WireError(error_type={"Backend": "Novel"}, message="m"))
    assert type(back) is errors.Unknown
    assert back.message == "m"
