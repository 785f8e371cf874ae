"""Fields of requests that nothing reads."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from muster.frontend.api_error import ApiError
from muster.frontend.openai.parameters import IgnoredParameters, Parameters

READ = ("model", "messages", "stream")


class Checked:
    def __init__(self, *, strict: bool = False) -> None:
        self.ignored = IgnoredParameters()
        self._parameters = Parameters(READ, "chat", strict=strict, ignored=self.ignored)

    def __call__(self, **fields: Any) -> dict[str, int]:
        """What is ignored of a request with these fields."""
        self.ignored.counts.clear()
        self._parameters.check(json.dumps({"model": "tiny", "messages": [], **fields}).encode())
        return {name: count for (_, name), count in self.ignored.counts.items()}

    def refusal(self, **fields: Any) -> ApiError:
        with pytest.raises(ApiError) as caught:
            self(**fields)
        assert caught.value.status == 400
        return caught.value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("modalities", ["text", "audio"]),
        ("web_search_options", {}),
        ("functions", [{"name": "f"}]),
        ("verbosity", "low"),
        ("response_format", {"type": "json_object"}),
        ("guided_regex", "a+"),
        ("echo", True),
        ("echo", 1),
        ("suffix", "end"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(field: str, value: Any) -> None:
    error = Checked().refusal(**{field: value})
    assert error.param == field
    assert f"`{field}`" in error.message
    assert error.slug == "unsupported_parameter"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("audio", None),
        ("modalities", ["text"]),
        ("functions", []),
        ("verbosity", "medium"),
        ("response_format", {"type": "text"}),
        ("echo", False),
        ("suffix", ""),
    ],
)
def test_what_asks_for_nothing_is_let_through(field: str, value: Any) -> None:
    assert Checked(strict=True)(**{field: value}) == {}


def test_what_only_informs_is_ignored_and_counted_by_name() -> None:
    ignored = Checked(strict=True)(store=True, metadata={"a": "b"}, service_tier="flex")
    assert ignored == {"store": 1, "metadata": 1, "service_tier": 1}


def test_unknown_fields_are_counted_without_their_names_or_refused() -> None:
    checked = Checked()
    assert checked(temprature=1, topp=2) == {"unknown": 2}
    registry = CollectorRegistry()
    registry.register(checked.ignored)
    labels = {"endpoint": "chat", "parameter": "unknown"}
    assert registry.get_sample_value("muster_ignored_parameters_total", labels) == 2
    error = Checked(strict=True).refusal(temprature=1, topp=2)
    assert error.message == "Unsupported parameter(s): `temprature`, `topp`"
    assert error.param == "temprature"


def test_fields_that_are_read_are_nobodys_business_here() -> None:
    assert Checked(strict=True)(stream=True) == {}


@pytest.mark.parametrize(
    "body", [b'{"\xff": 1}', b'{"suffix": "\xff"}', b'{"suffix": ' + b"[" * 9999]
)
def test_what_the_reader_of_requests_skips_over_is_a_400_here(body: bytes) -> None:
    parameters = Parameters(READ, "chat", strict=False, ignored=IgnoredParameters())
    with pytest.raises(ApiError) as caught:
        parameters.check(body)
    assert caught.value.status == 400
