from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.processes.pages import ADDED_GAUGES, lasting, merge, page_of, render
from muster.http.counts import HttpCounts


class Fixed(Collector):
    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return [*self._families]


def registry(*families: Metric) -> CollectorRegistry:
    found = CollectorRegistry()
    found.register(Fixed(*families))
    return found


def used(requests: int) -> CollectorRegistry:
    """A frontend's metrics after so many requests, the last of which is not answered."""
    found = CollectorRegistry()
    metrics = FrontendMetrics(found, ModelTable(), clock=lambda: 1.0)
    for number in range(requests):
        meter = metrics.start("tiny", "chat_completions", stream=False)
        meter.sent(5)
        if number < requests - 1:
            meter.tokens(3)
            meter.finish()
    return found


def test_one_page_is_shown_as_its_registry_is() -> None:
    from prometheus_client import generate_latest

    assert render(merge([page_of(used(3))])) == generate_latest(used(3))


def test_counters_and_histograms_are_added() -> None:
    text = render(merge([page_of(used(3)), page_of(used(5))])).decode()
    assert 'dynamo_frontend_requests_started_total{endpoint="chat_completions"' in text
    assert 'dynamo_frontend_output_tokens_total{model="tiny"} 18.0' in text
    assert 'dynamo_frontend_input_sequence_tokens_count{model="tiny"} 8.0' in text
    assert 'dynamo_frontend_input_sequence_tokens_sum{model="tiny"} 40.0' in text
    assert 'dynamo_frontend_active_requests{model="tiny"} 2.0' in text


def test_a_gauge_that_says_the_same_in_every_process_is_not_added() -> None:
    pages = [page_of(registry(GaugeMetricFamily("muster_keys", "Keys.", n))) for n in (7, 8, 7)]
    assert "muster_keys 8.0" in render(merge(pages)).decode()


def test_samples_that_only_one_process_has_are_kept() -> None:
    family = CounterMetricFamily("a", "A.", labels=["x"])
    family.add_metric(["one"], 1)
    other = CounterMetricFamily("a", "A.", labels=["x"])
    other.add_metric(["two"], 2)
    text = render(merge([page_of(registry(family)), page_of(registry(other))])).decode()
    assert 'a_total{x="one"} 1.0' in text
    assert 'a_total{x="two"} 2.0' in text


def test_of_a_process_that_has_ended_everything_stays_that_only_grows() -> None:
    text = render(merge([lasting(page_of(used(3))), page_of(used(1))])).decode()
    assert 'dynamo_frontend_output_tokens_total{model="tiny"} 6.0' in text
    assert 'dynamo_frontend_active_requests{model="tiny"} 1.0' in text


def test_gauges_of_what_is_under_way_are_those_of_the_frontend() -> None:
    names = {family.name for family in used(1).collect() if family.type == "gauge"}
    assert names - ADDED_GAUGES == {
        "dynamo_frontend_model_ready",
        "dynamo_frontend_model_context_length",
    }


def test_clients_that_were_cut_off_by_any_process_are_counted() -> None:
    pages = []
    for count in (1, 2):
        counts = HttpCounts()
        counts.slow_readers = count
        found = CollectorRegistry()
        found.register(counts)
        pages.append(page_of(found))
    assert b"\nmuster_http_slow_readers_total 3.0\n" in render(merge(pages))
    assert lasting(pages[0]) == pages[0]
