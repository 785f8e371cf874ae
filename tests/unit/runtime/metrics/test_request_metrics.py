"""Counts of requests: what the observers and the dispatcher say is what the page shows."""

from __future__ import annotations

import pytest
from prometheus_client import generate_latest

from muster.errors import ConfigError, InvalidArgument
from muster.names import EndpointId
from muster.runtime.metrics.hierarchy import MetricsNode
from muster.runtime.metrics.requests import EndpointObserver, RequestMetrics

ENDPOINT = EndpointId("exp-ns", "backend", "generate")
LABELS = (
    'dynamo_component="backend",dynamo_endpoint="generate",dynamo_namespace="exp_ns",'
    'worker_id="abc"'
)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


@pytest.fixture
def root() -> MetricsNode:
    return MetricsNode.root(0xABC)


@pytest.fixture
def metrics(root: MetricsNode) -> RequestMetrics:
    return RequestMetrics(root)


def lines(root: MetricsNode) -> dict[str, float]:
    """The page's series and values."""
    page = generate_latest(root).decode()
    parts = (line.rpartition(" ") for line in page.splitlines() if not line.startswith("#"))
    return {series: float(number) for series, _, number in parts}


def test_an_endpoints_requests_are_counted(root: MetricsNode, metrics: RequestMetrics) -> None:
    observer = EndpointObserver(metrics, ENDPOINT)
    for size in (100, 50, 1):
        observer.started(size)
    observer.responded(7)
    observer.responded(8)
    observer.first_response(0.004)
    observer.transit(0.0007)
    observer.ended(0.03, None)
    observer.ended(20.0, "generate")
    observer.cancelled()
    assert observer.active == 1
    found = lines(root)
    prefix = "dynamo_component_"
    assert found[f"{prefix}requests_total{{{LABELS}}}"] == 3
    assert found[f"{prefix}request_bytes_total{{{LABELS}}}"] == 151
    assert found[f"{prefix}response_bytes_total{{{LABELS}}}"] == 15
    assert found[f"{prefix}inflight_requests{{{LABELS}}}"] == 1
    assert found[f"{prefix}cancellation_total{{{LABELS}}}"] == 1
    failed = LABELS.replace(",worker_id", ',error_type="generate",worker_id')
    assert found[f"{prefix}errors_total{{{failed}}}"] == 1
    assert found[f"{prefix}request_duration_seconds_count{{{LABELS}}}"] == 2
    assert found[f"{prefix}request_duration_seconds_sum{{{LABELS}}}"] == 20.03
    buckets = {key: number for key, number in found.items() if "duration_seconds_bucket" in key}
    assert len(buckets) == 18
    at_20 = next(number for key, number in buckets.items() if 'le="20.0"' in key)
    at_10 = next(number for key, number in buckets.items() if 'le="10.0"' in key)
    assert (at_10, at_20) == (1, 2)
    work = "dynamo_work_handler_"
    assert found[f'{work}time_to_first_response_seconds_bucket{{le="0.005"}}'] == 1
    assert found[f'{work}time_to_first_response_seconds_bucket{{le="0.001"}}'] == 0
    assert found[f'{work}network_transit_seconds_bucket{{le="0.0005"}}'] == 0
    assert found[f'{work}network_transit_seconds_bucket{{le="0.001"}}'] == 1


def test_errors_appear_with_the_first_one(root: MetricsNode, metrics: RequestMetrics) -> None:
    observer = EndpointObserver(metrics, ENDPOINT)
    assert "errors_total" not in generate_latest(root).decode()
    for failure in ("generate", "publish_response", "generate"):
        observer.started(1)
        observer.ended(0.1, failure)
    errors = {key: number for key, number in lines(root).items() if "errors_total" in key}
    assert sorted(errors.values()) == [1, 2]


def test_5641_two_endpoints_of_one_component_are_two_series(
    root: MetricsNode, metrics: RequestMetrics
) -> None:
    for number, name in enumerate(["generate", "worker_kv_indexer_query"], 1):
        observer = EndpointObserver(metrics, EndpointId("a", "b", name))
        for _ in range(number):
            observer.started(1)
    totals = [number for key, number in lines(root).items() if "_requests_total" in key]
    assert sorted(totals) == [1, 2]
    assert generate_latest(root).decode().count("# TYPE dynamo_component_requests_total") == 1


def test_5641_endpoints_that_labels_cannot_tell_apart_are_served_and_shown_once(
    root: MetricsNode, metrics: RequestMetrics
) -> None:
    """As the peer does: it shows the first one. A label must not keep an endpoint from serving."""
    for namespace in ("exp-ns", "exp_ns"):
        EndpointObserver(metrics, EndpointId(namespace, "b", "c")).started(1)
    totals = [number for key, number in lines(root).items() if "_requests_total" in key]
    assert totals == [1]


def test_10691_labels_of_an_endpoint_are_on_all_its_request_metrics_and_on_no_others(
    root: MetricsNode, metrics: RequestMetrics
) -> None:
    model = 'a-b/c d.é"x\\y\nz'  # values are not cleaned, only escaped
    one = EndpointObserver(metrics, ENDPOINT, labels=[("model", model), ("empty", "")])
    EndpointObserver(metrics, EndpointId("a", "b", "c"))
    one.started(1)
    one.ended(0.1, "generate")
    for family in root.collect():
        for sample in family.samples:
            place = sample.labels.get("dynamo_endpoint")
            assert sample.labels.get("model") == (model if place == "generate" else None)
            assert ("empty" in sample.labels) == (place == "generate")
    assert generate_latest(root)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ([("dynamo_namespace", "1")], "'dynamo_namespace' is set automatically"),
        ([("worker_id", "1")], "'worker_id' is set automatically"),
        ([("m", "1"), ("m", "2")], "'m' is there twice"),
        ([("error_type", "1")], "'error_type' is there twice"),
        ([("le", "1")], "'le' is reserved"),
        ([("9x y", "1")], "'9x y' is no label name"),
    ],
)
def test_10691_bad_labels_of_an_endpoint_are_refused_naming_them_and_it(
    root: MetricsNode, metrics: RequestMetrics, labels: list[tuple[str, str]], complaint: str
) -> None:
    before = lines(root).keys()
    with pytest.raises(InvalidArgument, match=complaint) as caught:
        EndpointObserver(metrics, ENDPOINT, labels=labels)
    assert "endpoint exp-ns/backend/generate" in caught.value.message
    assert lines(root).keys() == before


def test_an_endpoint_that_is_gone_is_off_the_page_and_comes_back_at_zero(
    root: MetricsNode, metrics: RequestMetrics
) -> None:
    mine = root.endpoint_of(ENDPOINT).counter("mine", "A counter.")
    mine.inc()
    old = EndpointObserver(metrics, ENDPOINT)
    old.started(1)
    old.close()
    old.close()
    old.started(1)
    assert f"dynamo_component_requests_total{{{LABELS}}}" not in lines(root)
    EndpointObserver(metrics, ENDPOINT)
    assert lines(root)[f"dynamo_component_requests_total{{{LABELS}}}"] == 0
    assert lines(root)[f"dynamo_component_mine_total{{{LABELS}}}"] == 1


def test_c9_the_names_of_request_metrics_are_nobody_elses(
    root: MetricsNode, metrics: RequestMetrics
) -> None:
    level = metrics.root.endpoint_of(ENDPOINT)
    for name in ("requests", "errors_total", "request_bytes", "cancellation"):
        with pytest.raises(ConfigError, match="at runtime"):
            level.counter(name, "Mine.")
    for name in ("uptime_seconds", "inflight_requests", "request_duration_seconds_count"):
        with pytest.raises(ConfigError, match="at runtime"):
            level.gauge(name, "Mine.")
    with pytest.raises(ConfigError, match="one place only"):
        RequestMetrics(root)


def test_the_uptime_counts_from_when_the_runtime_was_made(root: MetricsNode) -> None:
    clock = Clock()
    RequestMetrics(root, clock=clock)
    clock.now += 12.5
    assert lines(root)['dynamo_component_uptime_seconds{worker_id="abc"}'] == 12.5


def test_what_the_dispatcher_counts_has_no_labels(
    root: MetricsNode, metrics: RequestMetrics
) -> None:
    work = metrics.work_handler
    work.queue_capacity, work.pool_capacity = 40000, 10000
    for _ in range(3):
        work.queued()
    for seconds in (0.0, 0.02):
        work.unqueued()
        work.waited(seconds)
        work.running()
    work.finished()
    work.rejected()
    work.enqueue_rejected += 2
    work.transit(-0.5)  # the sender's clock is ahead
    found = lines(root)
    assert {key: number for key, number in found.items() if "{" not in key} == {
        "dynamo_engine_request": 1,
        "dynamo_request_queue": 1,
        "dynamo_rejection_request_total": 1,
        "dynamo_work_handler_enqueue_rejected_total": 2,
        "dynamo_work_handler_queue_depth": 1,
        "dynamo_work_handler_queue_capacity": 40000,
        "dynamo_work_handler_pool_active_tasks": 1,
        "dynamo_work_handler_pool_capacity": 10000,
        "dynamo_work_handler_permit_wait_seconds_count": 2,
        "dynamo_work_handler_permit_wait_seconds_sum": 0.02,
        "dynamo_work_handler_network_transit_seconds_count": 1,
        "dynamo_work_handler_network_transit_seconds_sum": 0,
        "dynamo_work_handler_time_to_first_response_seconds_count": 0,
        "dynamo_work_handler_time_to_first_response_seconds_sum": 0,
    }
    assert found['dynamo_work_handler_permit_wait_seconds_bucket{le="0.01"}'] == 1
