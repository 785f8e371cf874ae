from __future__ import annotations

from prometheus_client import CollectorRegistry

from muster.frontend.dashboard.traffic import Traffic
from muster.frontend.metrics import FrontendMetrics
from muster.frontend.model_table import ModelTable
from muster.frontend.processes.messages import Tally
from muster.frontend.processes.tallies import add, summed, tally_of, without_present


def counted(answered: int, failed: int, active: int) -> FrontendMetrics:
    metrics = FrontendMetrics(CollectorRegistry(), ModelTable(), clock=lambda: 1.0)
    for number in range(answered + failed + active):
        meter = metrics.start("tiny", "chat_completions", stream=False)
        if number < answered:
            meter.tokens(2)
            meter.finish()
        elif number < answered + failed:
            meter.fail("internal" if number % 2 else "cancelled")
    return metrics


def test_a_sum_is_what_one_process_would_have_counted() -> None:
    parts = [tally_of(counted(*sizes).by_model["tiny"]) for sizes in ((2, 2, 1), (4, 2, 3))]
    whole = tally_of(counted(6, 4, 4).by_model["tiny"])
    assert add(parts) == whole


def test_nothing_is_under_way_in_a_process_that_has_ended() -> None:
    tally = without_present(tally_of(counted(2, 1, 3).by_model["tiny"]))
    assert (tally.started, tally.active, tally.queued) == (6, 0, 0)


def test_the_dashboard_shows_the_traffic_of_all_processes() -> None:
    own = counted(0, 0, 0)
    seen: dict[str, Tally] = {}
    traffic = Traffic(lambda: summed(own.by_model, [seen], own.bounds))
    traffic.sample(wall=100.0, monotonic=0.0)
    seen["tiny"] = tally_of(counted(4, 0, 1).by_model["tiny"])
    own.start("tiny", "chat_completions", stream=False)
    traffic.sample(wall=101.0, monotonic=1.0)
    second = traffic.seconds[-1]
    assert (second.started, second.succeeded, second.tokens, second.active) == (6, 4, 8, 2)
    assert second.ttft_p50 is not None
    assert traffic.models()["tiny"].active == 2


def test_a_model_that_only_this_process_knows_is_not_copied() -> None:
    own = counted(1, 0, 0)
    assert summed(own.by_model, [{}], own.bounds)["tiny"] is own.by_model["tiny"]
