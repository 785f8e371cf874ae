from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from muster.errors import Overloaded
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelStatus, ModelTable
from muster.testing.scripted import ScriptedModel


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Page:
    def __init__(self, table: ModelTable | None = None) -> None:
        self.registry = CollectorRegistry()
        self.clock = Clock()
        self.metrics = FrontendMetrics(self.registry, table or ModelTable(), clock=self.clock)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"dynamo_frontend_{name}", labels)


def test_a_streamed_request_is_measured_from_arrival_to_end() -> None:
    page = Page()
    with page.metrics.start("m", "chat_completions", stream=True) as meter:
        assert page.value("active_requests", model="m") == 1
        assert page.value("queued_requests", model="m") == 1
        assert page.value("inflight_requests", model="m") == 0
        meter.sent(250)
        assert page.value("inflight_requests", model="m") == 1
        page.clock.now += 0.03
        meter.tokens(0)
        assert page.value("queued_requests", model="m") == 1
        meter.tokens(2)
        assert page.value("queued_requests", model="m") == 0
        assert page.value("output_tokens_total", model="m") == 2
        page.clock.now += 0.04
        meter.tokens(4)
        meter.finish(cached_tokens=64)
    assert page.value("active_requests", model="m") == 0
    assert page.value("inflight_requests", model="m") == 0
    assert page.value("time_to_first_token_seconds_sum", model="m") == pytest.approx(0.03)
    assert page.value("time_to_first_token_seconds_bucket", model="m", le="0.022") == 0
    assert page.value("time_to_first_token_seconds_bucket", model="m", le="0.047") == 1
    assert page.value("inter_token_latency_seconds_count", model="m") == 4
    assert page.value("inter_token_latency_seconds_sum", model="m") == pytest.approx(0.04)
    assert page.value("request_duration_seconds_sum", model="m") == pytest.approx(0.07)
    assert page.value("input_sequence_tokens_sum", model="m") == 250
    assert page.value("output_sequence_tokens_sum", model="m") == 6
    assert page.value("cached_tokens_sum", model="m") == 64
    labels = {"model": "m", "endpoint": "chat_completions", "request_type": "stream"}
    assert page.value("requests_started_total", **labels) == 1
    assert page.value("requests_total", **labels, status="success", error_type="") == 1


@pytest.mark.parametrize(
    ("error", "error_type"),
    [
        (asyncio.CancelledError(), "cancelled"),
        (Overloaded("busy"), "overload"),
        (ZeroDivisionError(), "internal"),
    ],
)
def test_what_leaves_the_block_is_the_outcome(error: BaseException, error_type: str) -> None:
    page = Page()
    with pytest.raises(type(error)), page.metrics.start("m", "completions", stream=False):
        raise error
    assert (
        page.value(
            "requests_total",
            model="m",
            endpoint="completions",
            request_type="unary",
            status="error",
            error_type=error_type,
        )
        == 1
    )
    assert page.value("queued_requests", model="m") == 0
    assert page.value("model_cancellation_total", model="m") == (error_type == "cancelled")
    assert page.value("disconnected_clients") == (error_type == "cancelled")
    rejected = page.value("model_rejection_total", model="m", endpoint="completions")
    assert rejected == (1 if error_type == "overload" else None)


def test_a_failure_that_is_known_already_is_counted_once() -> None:
    page = Page()
    meter = page.metrics.start("m", "completions", stream=True)
    meter.fail("internal")
    with pytest.raises(asyncio.CancelledError), meter:
        raise asyncio.CancelledError
    assert page.value("request_duration_seconds_count", model="m") == 1


def test_requests_for_models_that_do_not_exist_share_a_label() -> None:
    page = Page()
    page.metrics.refused("completions", "not_found")
    page.metrics.refused("completions", "not_found")
    assert (
        page.value(
            "requests_total",
            model="unknown_model",
            endpoint="completions",
            request_type="unary",
            status="error",
            error_type="not_found",
        )
        == 2
    )


def test_models_show_whether_they_are_served(model: ScriptedModel) -> None:
    table = ModelTable(unserved=lambda: [ModelStatus(model="bad", state="failed")])
    table.add(model.served)
    page = Page(table)
    assert page.value("model_ready", model="tiny") == 1
    assert page.value("model_ready", model="bad") == 0
    assert page.value("model_context_length", model="tiny") == 2048


def test_an_idle_frontend_has_a_page() -> None:
    assert b"dynamo_frontend_disconnected_clients 0.0" in generate_latest(Page().registry)
