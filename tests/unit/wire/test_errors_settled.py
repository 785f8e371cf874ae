"""Any failure that may arrive is one exception, and leaves as a 1.6.1 process would pass it on."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster import errors
from muster.errors.error_class import ErrorClass
from muster.wire.error_table import KINDS, REASONS, WRITTEN_AS
from muster.wire.errors import TEXT_LIMIT, WireError, exception_from, wire_error_from

BACKENDS = sorted(name.removeprefix("Backend.") for name in KINDS if name.startswith("Backend."))
PLAIN = sorted(name for name in KINDS if not name.startswith("Backend."))
PUBLIC: list[Any] = [
    None,
    {"type": "message", "message": "for you"},
    {"type": "size_limit", "limit": 5, "actual": None},
]


def written_type(kind: str) -> Any:
    name = WRITTEN_AS.get(kind, kind)
    plain = name.removeprefix("Backend.")
    return name if plain == name else {"Backend": plain}


def every_failure() -> list[WireError]:
    """Each kind with each reason of its class, as a process of 1.6.1 writes it."""
    return [
        WireError(
            error_type=written_type(kind),
            class_=str(found.error_class),
            reason=reason,
            message="why",
            diagnostic="why",
        )
        for kind, found in KINDS.items()
        for reason, error_class in REASONS.items()
        if error_class is found.error_class
    ]


def read(data: bytes) -> WireError:
    return msgspec.json.decode(data, type=WireError)


@pytest.mark.parametrize("wire", every_failure(), ids=str)
@pytest.mark.parametrize("public", PUBLIC, ids=["none", "message", "limit"])
def test_a_failure_that_is_raised_on_leaves_as_it_came(wire: WireError, public: Any) -> None:
    data = msgspec.json.encode(msgspec.structs.replace(wire, public=public))
    raised = exception_from(read(data))
    assert msgspec.json.encode(wire_error_from(raised)) == data
    assert raised.error_class == wire.class_
    assert raised.reason == wire.reason
    assert raised.message == ("for you" if public == PUBLIC[1] else "why")


def test_every_class_is_an_exception_of_its_own_or_a_known_one() -> None:
    found = {name: type(exception_from(WireError(class_=name, message="m"))) for name in ErrorClass}
    assert found == {
        "InvalidRequest": errors.InvalidArgument,
        "Unauthenticated": errors.Unauthenticated,
        "PermissionDenied": errors.PermissionDenied,
        "NotFound": errors.NotFound,
        "Conflict": errors.Conflict,
        "PayloadTooLarge": errors.PayloadTooLarge,
        "UnsupportedMedia": errors.UnsupportedMedia,
        "RateLimited": errors.RateLimited,
        "CapacityExhausted": errors.Overloaded,
        "Cancelled": errors.Cancelled,
        "Unavailable": errors.WorkerUnavailable,
        "BackendProtocol": errors.ProtocolError,
        "DeadlineExceeded": errors.ResponseTimeout,
        "NotImplemented": errors.Unimplemented,
        "Internal": errors.Unknown,
    }


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_exceptions_class_is_that_of_the_failures_it_stands_for(kind: str) -> None:
    found = KINDS[kind]
    assert found.exception("m").error_class is found.error_class


@pytest.mark.parametrize(
    "name",
    [name for name in errors.__all__ if name not in ("SourceBusyError", "HttpError")],
)
def test_what_is_raised_here_keeps_its_class_on_the_way(name: str) -> None:
    error = getattr(errors, name)("why")
    back = exception_from(wire_error_from(error))
    assert back.error_class is error.error_class
    assert back.message == "why"


@pytest.mark.parametrize(
    ("wire", "class_", "reason"),
    [
        (b"{}", "Internal", "runtime.unclassified"),
        (b'{"error_type":"RateLimited"}', "RateLimited", "request.rate_limited"),
        (b'{"class":"NotFound"}', "NotFound", "request.not_found"),
        (b'{"class":"InvalidArgument"}', "InvalidRequest", "request.invalid_argument"),
        (b'{"error_type":"Novel"}', "Internal", "runtime.unclassified"),
        (b'{"error_type":{"Backend":"Disconnected"}}', "Unavailable", "backend.disconnected"),
        (
            b'{"error_type":{"Backend":"Unknown"},"class":"NotFound","reason":"request.not_found"}',
            "NotFound",
            "request.not_found",
        ),
        (
            b'{"error_type":{"Backend":"Novel"},"class":"Conflict","reason":"request.conflict"}',
            "Conflict",
            "request.conflict",
        ),
        (b'{"error_type":"Unknown","diagnostic":null,"reason":null}', "Internal", None),
    ],
)
def test_what_is_left_out_follows_from_the_rest(
    wire: bytes, class_: str, reason: str | None
) -> None:
    settled = read(wire).settled()
    assert settled.class_ == class_
    assert settled.reason == (reason or "runtime.unclassified")


@pytest.mark.parametrize(
    "wire",
    [
        b'"class":"Novel","reason":"request.conflict"',
        b'"class":"Unknown"',
        b'"class":"Backend.Unknown"',
        b'"class":"NotFound","reason":"request.conflict"',
        b'"class":"NotFound","reason":"novel.reason"',
        b'"class":"Internal","reason":""',
        b'"error_type":"Unknown","class":"NotFound"',
        b'"error_type":{"Backend":"Novel"}',
        b'"error_type":5',
        b'"error_type":{"Other":"x"}',
        b'"error_type":[]',
    ],
)
def test_an_identity_nobody_knows_fails_closed(wire: bytes) -> None:
    text = b'{"message":"m","code":404}'
    for message in (b'"m"', msgspec.json.encode(text.decode())):
        data = b'{%s,"message":%s,"public":{"type":"message","message":"p"}}' % (wire, message)
        back = exception_from(read(data))
        assert type(back) is errors.Unknown
        assert (back.error_class, back.reason) == (ErrorClass.INTERNAL, "runtime.invalid_error")
        assert back.message == msgspec.json.decode(message)
        passed_on = wire_error_from(back)
        assert passed_on.error_type == "Unknown"
        assert passed_on.public is None


any_text = st.none() | st.text(max_size=20)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
any_failure = st.builds(
    WireError,
    error_type=st.sampled_from(PLAIN)
    | st.sampled_from(BACKENDS).map(lambda name: {"Backend": name})
    | any_json,
    class_=st.none() | st.sampled_from(PLAIN) | st.text(max_size=8),
    reason=st.none() | st.sampled_from(sorted(REASONS)) | st.text(max_size=8),
    message=any_text,
    diagnostic=any_text,
    public=st.sampled_from(PUBLIC) | any_json,
    caused_by=any_json,
)


@given(any_failure)
def test_any_failure_is_one_exception_and_settles_at_once(wire: WireError) -> None:
    raised = exception_from(wire)
    passed_on = wire_error_from(raised)
    assert passed_on == wire.settled() == passed_on.settled()
    assert passed_on.class_ in set(ErrorClass)
    assert REASONS[passed_on.reason or ""] == passed_on.class_ == raised.error_class
    again = exception_from(read(msgspec.json.encode(passed_on)))
    assert type(again) is type(raised)
    assert (again.message, again.reason) == (raised.message, raised.reason)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(passed_on), type=WireError) == passed_on


@given(any_failure)
def test_an_exception_that_is_pickled_or_copied_keeps_all(wire: WireError) -> None:
    raised = exception_from(wire)
    for twin in (pickle.loads(pickle.dumps(raised)), copy.copy(raised)):
        assert type(twin) is type(raised)
        assert wire_error_from(twin) == wire_error_from(raised)
        assert (twin.message, str(twin)) == (raised.message, str(raised))


def test_texts_are_cut_to_whole_characters_with_a_mark() -> None:
    wire = WireError(error_type="Unknown", message="é" * 3000, diagnostic="a" * 4097).settled()
    assert wire.message is not None
    assert wire.message.endswith("é...[truncated]")
    assert len(wire.message.encode()) == TEXT_LIMIT
    assert wire.diagnostic == "a" * (TEXT_LIMIT - 14) + "...[truncated]"
    assert WireError(message="a" * TEXT_LIMIT).settled().message == "a" * TEXT_LIMIT


def test_what_caused_a_failure_is_carried_along() -> None:
    inner = {"error_type": "Disconnected", "message": "inner"}
    raised = exception_from(WireError(error_type="InvalidArgument", caused_by=inner))
    assert wire_error_from(raised).caused_by == inner
