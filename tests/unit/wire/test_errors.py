"""Failures keep their meaning across the wire."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from muster import errors
from muster.wire.errors import TEXT_LIMIT, WireError, exception_from, wire_error_from


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
        (
            ConnectionRefusedError(111, "refused"),
            "CannotConnect",
            "Unavailable",
            "ConnectionRefusedError: [Errno 111] refused",
        ),
        (GeneratorExit("boom"), "EngineShutdown", "Unavailable", "engine shutting down"),
        (SystemExit(1), "EngineShutdown", "Unavailable", "engine shutting down"),
        (KeyboardInterrupt(), "EngineShutdown", "Unavailable", "engine shutting down"),
        (errors.ConfigError("boom", hint="no"), "Unknown", "Internal", "boom"),
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


class NoTextError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NoTextError(), "NoTextError: <exception str() failed>"),
        (ValueError("a\ud800b"), "ValueError: a\ufffd\ufffd\ufffdb"),
        (errors.InvalidArgument("a\ud800b"), "a\ufffd\ufffd\ufffdb"),
        (errors.HttpError(400, "a\ud800b"), '{"message":"a\ufffd\ufffd\ufffdb","code":400}'),
        (RuntimeError("a" * 5000), "RuntimeError: " + "a" * 4068 + "...[truncated]"),
        (ValueError({"a": 1}), "ValueError: {'a': 1}"),
        (RuntimeError(), "RuntimeError: "),
    ],
)
def test_any_text_fits_the_wire(error: BaseException, message: str) -> None:
    wire = wire_error_from(error)
    assert wire.message == wire.diagnostic == message
    assert msgspec.json.decode(msgspec.json.encode(wire), type=WireError) == wire


@pytest.mark.parametrize(
    ("error", "error_type", "class_", "reason"),
    [
        (errors.Overloaded, "ResourceExhausted", "CapacityExhausted", "capacity.worker_overloaded"),
        (
            errors.RouterQueueLimitExceeded,
            "ResourceExhausted",
            "CapacityExhausted",
            "capacity.worker_overloaded",
        ),
        (errors.ProtocolError, "Unknown", "BackendProtocol", "backend.protocol"),
        (errors.TransportError, "Unavailable", "Unavailable", "backend.unavailable"),
        (errors.SelectionServiceError, "Unavailable", "Unavailable", "backend.unavailable"),
        (errors.RateLimited, "ResourceExhausted", "RateLimited", "request.rate_limited"),
        (errors.NotFound, "Unknown", "NotFound", "request.not_found"),
        (errors.PayloadTooLarge, "InvalidArgument", "PayloadTooLarge", "request.payload_too_large"),
        (errors.Unimplemented, "Unknown", "NotImplemented", "runtime.not_implemented"),
        (
            errors.RequestError,
            {"Backend": "InvalidArgument"},
            "InvalidRequest",
            "backend.invalid_argument",
        ),
    ],
)
def test_ours_without_a_name_at_the_peer_travel_by_their_class(
    error: type[errors.MusterError], error_type: object, class_: str, reason: str
) -> None:
    wire = wire_error_from(error("why"))
    assert (wire.error_type, wire.class_, wire.reason) == (error_type, class_, reason)
    assert wire.message == "why"


class OwnInvalidArgument(errors.InvalidArgument):
    """What an application makes of it."""


def test_a_subclass_travels_as_what_it_is_made_of() -> None:
    assert wire_error_from(OwnInvalidArgument("why")) == wire_error_from(
        errors.InvalidArgument("why")
    )


def test_a_group_of_one_is_that_one() -> None:
    inner = errors.EngineShutdown("why")
    group = BaseExceptionGroup("outer", [ExceptionGroup("group", [inner])])
    assert wire_error_from(group) == wire_error_from(inner)
    two = ExceptionGroup("group", [inner, ValueError("boom")])
    assert wire_error_from(two).message == "ExceptionGroup: group (2 sub-exceptions)"


def test_a_failure_that_is_wrapped_is_the_wrappers() -> None:
    arrived = exception_from(WireError(class_="RateLimited", message="slow"))
    with pytest.raises(RuntimeError) as wrapper:
        raise RuntimeError("outer") from arrived
    assert wire_error_from(wrapper.value) == wire_error_from(RuntimeError("outer"))
    with pytest.raises(errors.RateLimited) as chained:
        raise arrived from ValueError("inner")
    assert wire_error_from(chained.value).reason == "request.rate_limited"


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


@pytest.mark.parametrize("letter", ["a", "é", "\x01", '"', "😀"])
@pytest.mark.parametrize("length", [4072, 8192])
def test_a_status_survives_a_message_that_is_too_long(letter: str, length: int) -> None:
    wire = wire_error_from(errors.HttpError(404, letter * length))
    assert wire.message is not None
    size = len(wire.message.encode())
    one = len(msgspec.json.encode(letter)) - 2
    assert TEXT_LIMIT - one < size <= TEXT_LIMIT
    back = exception_from(wire)
    assert isinstance(back, errors.HttpError)
    assert back.status == 404
    assert back.message.rstrip(".") == letter * (len(back.message) - 3)


def test_a_message_that_just_fits_is_left_whole() -> None:
    room = TEXT_LIMIT - len(b'{"message":"","code":404}')
    back = exception_from(wire_error_from(errors.HttpError(404, "a" * room)))
    assert back.message == "a" * room
