"""What every error has, and what of Dynamo's carries over."""

from __future__ import annotations

import copy
import pickle

import pytest

from muster import errors
from muster.errors.error_class import ErrorClass


def test_every_error_is_listed_with_a_code_of_its_own() -> None:
    kinds = {getattr(errors, name) for name in errors.__all__}
    assert all(issubclass(kind, errors.MusterError) for kind in kinds)
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert errors.__all__ == sorted(errors.__all__)


@pytest.mark.parametrize(
    "name",
    [
        *("Unknown", "InvalidArgument", "CannotConnect", "Disconnected", "ConnectionTimeout"),
        *("Cancelled", "EngineShutdown", "StreamIncomplete", "WorkerUnavailable"),
        *("RouterQueueLimitExceeded", "SelectionServiceError"),
    ],
)
def test_except_clauses_of_dynamo_carry_over(name: str) -> None:
    kind = getattr(errors, name)
    with pytest.raises(errors.DynamoException) as caught:
        raise kind
    assert caught.value.message == ""
    assert str(kind(ValueError("inner"))) == "inner"


def test_a_hint_follows_the_message() -> None:
    assert errors.ConfigError("a").diagnostics() == "a"
    assert errors.ConfigError("a", hint="b").diagnostics() == "a\nhint: b"


@pytest.mark.parametrize(
    "error",
    [
        errors.SourceBusyError("busy", retry_after_s=2.5, hint="wait"),
        errors.HttpError(404, "gone", hint="none"),
        errors.RouterQueueLimitExceeded("full", policy_class="batch", current=3, limit=2),
        errors.SelectionServiceError("no", kind="not_ready", status_code=503),
        errors.InvalidArgument("bad", hint="do"),
    ],
)
def test_errors_can_be_pickled_and_copied(error: errors.MusterError) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert twin.args == error.args
        assert vars(twin) == vars(error)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, ErrorClass.INTERNAL),
        (200, ErrorClass.INTERNAL),
        (408, ErrorClass.DEADLINE_EXCEEDED),
        (418, ErrorClass.INVALID_REQUEST),
        (422, ErrorClass.INVALID_REQUEST),
        (431, ErrorClass.PAYLOAD_TOO_LARGE),
        (505, ErrorClass.INTERNAL),
        *((found.status, found) for found in ErrorClass),
    ],
)
def test_an_http_status_means_a_class(status: int, expected: ErrorClass) -> None:
    assert ErrorClass.of_status(status) is expected
    assert errors.HttpError(status, "m").error_class is expected
    assert errors.SelectionServiceError("m", status_code=status).error_class is expected


def test_a_class_is_its_name_on_the_wire() -> None:
    assert str(ErrorClass.RATE_LIMITED) == "RateLimited"
    assert f"{ErrorClass.RATE_LIMITED}" == "RateLimited"
    assert len(set(ErrorClass)) == 15


@pytest.mark.parametrize("status", [-1, 600, True, "400", 400.0, None])
def test_a_number_that_is_no_status_is_refused(status: object) -> None:
    with pytest.raises(ValueError, match="no HTTP status"):
        errors.HttpError(status, "m")  # type: ignore[arg-type]


def test_the_message_of_a_status_has_a_limit() -> None:
    assert errors.HttpError(400, "a" * 8192).message == "a" * 8192
    assert errors.HttpError(400, "a" * 8193).message == "a" * 8189 + "..."
    assert errors.HttpError(code=400, message="m").status == 400
