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


def test_what_is_the_clients_to_read_is_marked_public() -> None:
    public = {"type": "message", "message": "why"}
    assert wire_error_from(errors.InvalidArgument("why")).public == public
    assert wire_error_from(errors.RequestError("why")).public == public
    for error in (ValueError("why"), errors.Unknown("why"), errors.HttpError(400, "why")):
        assert b"public" not in msgspec.json.encode(wire_error_from(error))


@pytest.mark.parametrize("public", [b"null", b'"x"', b'{"type":"other","more":[]}'])
def test_any_public_part_is_read(public: bytes) -> None:
    wire = b'{"error_type":"Unknown","message":"m","public":%s}' % public
    assert exception_from(msgspec.json.decode(wire, type=WireError)).message == "m"


def test_nothing_the_peer_writes_is_left_out() -> None:
    assert msgspec.json.encode(wire_error_from(errors.Unknown(""))) == (
        b'{"error_type":{"Backend":"Unknown"},"class":"Internal","reason":"backend.unknown",'
        b'"message":"","diagnostic":""}'
    )


def test_the_plain_text_form_of_a_type_is_read_too() -> None:
    assert isinstance(
        exception_from(WireError(error_type="WorkerUnavailable", message="m")),
        errors.WorkerUnavailable,
    )


def test_a_type_nobody_knows_is_an_engine_error_with_its_text() -> None:
    back = exception_from(WireError(error_type={"Backend": "Novel"}, message="m"))
    assert type(back) is errors.Unknown
    assert back.message == "m"


@pytest.mark.parametrize(
    ("status", "name", "class_", "reason"),
    [
        (200, "Unknown", "Internal", "runtime.internal"),
        (400, "InvalidArgument", "InvalidRequest", "request.invalid"),
        (404, "Unknown", "NotFound", "request.not_found"),
        (418, "InvalidArgument", "InvalidRequest", "request.invalid"),
        (429, "ResourceExhausted", "RateLimited", "request.rate_limited"),
        (500, "Unknown", "Internal", "runtime.internal"),
        (503, "Unavailable", "Unavailable", "backend.unavailable"),
    ],
)
def test_an_engines_own_status_travels_as_the_peers_does(
    status: int, name: str, class_: str, reason: str
) -> None:
    wire = wire_error_from(errors.HttpError(status, "é"))
    assert (wire.error_type, wire.class_, wire.reason) == (name, class_, reason)
    assert wire.message == wire.diagnostic == f'{{"message":"é","code":{status}}}'
    back = exception_from(wire)
    assert isinstance(back, errors.HttpError)
    assert (back.status, back.message) == (status, "é")


@pytest.mark.parametrize(
    "text",
    [
        *('{"message":"m"}', '{"code":400}', '{"message":"m","code":600}', "{", "{not json"),
        *('{"message":"m","code":"400"}', '{"message":"m","code":400,"more":1}'),
    ],
)
def test_a_message_that_only_looks_like_a_status_stays_text(text: str) -> None:
    back = exception_from(WireError(error_type="InvalidArgument", message=text))
    assert type(back) is errors.InvalidArgument
    assert back.message == text


def test_an_engines_text_is_not_read_as_a_status() -> None:
    text = '{"message":"m","code":400}'
    back = exception_from(wire_error_from(errors.InvalidArgument(text)))
    assert type(back) is errors.InvalidArgument
    assert back.message == text


@pytest.mark.parametrize("status", [-1, 600])
def test_a_number_that_is_no_status_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="no HTTP status"):
        errors.HttpError(status, "m")
