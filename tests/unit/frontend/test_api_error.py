from __future__ import annotations

import json

import pytest

from muster import errors
from muster.errors.error_class import ErrorClass
from muster.frontend.api_error import ApiError
from muster.wire.errors import WireError, exception_from


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (errors.InvalidArgument("x"), 400, "validation"),
        (errors.RequestError("x"), 400, "validation"),
        (errors.WorkerUnavailable("x"), 503, "unavailable"),
        (errors.CannotConnect("x"), 503, "unavailable"),
        (errors.Disconnected("x"), 503, "unavailable"),
        (errors.StreamIncomplete("x"), 503, "unavailable"),
        (errors.EngineShutdown("x"), 503, "unavailable"),
        (errors.ConnectionTimeout("x"), 504, "response_timeout"),
        (errors.ResponseTimeout("x"), 504, "response_timeout"),
        (errors.ProtocolError("x"), 502, "internal"),
        (errors.Overloaded("x"), 529, "overload"),
        (errors.Cancelled("x"), 499, "cancelled"),
        (errors.Unknown("x"), 500, "internal"),
        (errors.EngineError("x"), 500, "internal"),
        (errors.HttpError(404, "x"), 404, "not_found"),
        (errors.HttpError(418, "x"), 418, "validation"),
        (errors.HttpError(503, "x"), 503, "unavailable"),
        (errors.HttpError(200, "x"), 500, "internal"),
        (errors.DiscoveryError("x"), 500, "internal"),
        (errors.Unauthenticated("x"), 401, "validation"),
        (errors.PermissionDenied("x"), 403, "validation"),
        (errors.NotFound("x"), 404, "not_found"),
        (errors.Conflict("x"), 409, "validation"),
        (errors.PayloadTooLarge("x"), 413, "validation"),
        (errors.UnsupportedMedia("x"), 415, "validation"),
        (errors.RateLimited("x"), 429, "validation"),
        (errors.Unimplemented("x"), 501, "not_implemented"),
        (errors.RouterQueueLimitExceeded("x"), 529, "overload"),
        (errors.SelectionServiceError("x"), 503, "unavailable"),
    ],
)
def test_every_error_has_a_status_and_a_word(
    error: errors.MusterError, status: int, error_type: str
) -> None:
    answer = ApiError.from_error(error)
    assert (answer.status, answer.error_type) == (status, error_type)
    body = json.loads(answer.body())["error"]
    assert body["message"] == "x"
    assert body["code"] == error.code
    blames = "invalid_request_error" if status < 499 else "server_error"
    assert body["type"] == ("rate_limit_error" if status == 429 else blames)
    assert ("retry-after" in answer.headers) == (status in {429, 503, 529})


@pytest.mark.parametrize("error_class", ErrorClass)
def test_a_failure_of_another_process_has_the_status_of_its_class(error_class: ErrorClass) -> None:
    arrived = exception_from(WireError(class_=str(error_class), message="x"))
    answer = ApiError.from_error(arrived)
    assert (answer.status, answer.message) == (error_class.status, "x")


def test_an_api_error_is_itself() -> None:
    error = ApiError(404, "no", param="model", slug="model_not_found")
    assert ApiError.from_error(error) is error
    assert json.loads(error.body()) == {
        "error": {
            "message": "no",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


def test_hints_are_for_clients_only_when_the_request_is_at_fault() -> None:
    assert "(try b)" in ApiError.from_error(errors.InvalidArgument("a", hint="try b")).message
    assert ApiError.from_error(errors.CannotConnect("a", hint="DYN_X")).message == "a"


def test_too_many_requests_has_its_own_type() -> None:
    assert ApiError(429, "slow down").type == "rate_limit_error"
