"""The board of a process's health: from what is known of its endpoints to what it says."""

from __future__ import annotations

import pytest

from muster.names import EndpointId
from muster.runtime.serving.health import HealthBoard, HealthReport

GENERATE = EndpointId("ns", "backend", "generate")
OTHER = EndpointId("ns", "prefill", "generate")
EMBED = EndpointId("ns", "backend", "embed")


def report(board: HealthBoard) -> HealthReport:
    return board.report(1.5)


def serving(*endpoints: EndpointId) -> HealthBoard:
    board = HealthBoard()
    for endpoint in endpoints:
        board.add(endpoint)
        board.registered(endpoint)
    return board


def test_a_process_that_serves_nothing_says_what_the_setting_says() -> None:
    assert report(HealthBoard(starting_ready=True)).ready
    report_ = report(HealthBoard())
    assert not report_.ready
    assert report_.reasons == ("no endpoint is served",)
    assert report_.endpoints == {}


@pytest.mark.parametrize("starting_ready", [True, False])
def test_once_endpoints_are_served_they_decide(starting_ready: bool) -> None:
    board = HealthBoard(starting_ready=starting_ready)
    board.add(GENERATE)
    assert report(board).reasons == ("ns/backend/generate: starting",)
    board.registered(GENERATE)
    assert report(board).ready
    assert report(board).endpoints == {"generate": True}
    assert report(board).reasons == ()
    board.remove(GENERATE)
    assert report(board).ready is starting_ready


def test_one_endpoint_that_is_not_ready_is_enough() -> None:
    board = serving(GENERATE, EMBED)
    board.withdrawn(EMBED, "unregister_endpoint_instance was called")
    said = report(board)
    assert not said.ready
    assert said.endpoints == {"generate": True, "embed": False}
    assert said.reasons == ("ns/backend/embed: withdrawn: unregister_endpoint_instance was called",)
    board.registered(EMBED)
    assert report(board).ready


@pytest.mark.parametrize("bad", [GENERATE, OTHER])
def test_of_two_endpoints_with_one_short_name_the_worse_counts(bad: EndpointId) -> None:
    board = serving(GENERATE, OTHER)
    assert report(board).endpoints == {"generate": True}
    board.withdrawn(bad)
    assert report(board).endpoints == {"generate": False}
    assert report(board).reasons == (f"{bad}: withdrawn",)


def test_an_engine_that_answers_again_does_not_bring_back_a_withdrawn_instance() -> None:
    board = serving(GENERATE)
    board.probed(GENERATE, "canary failed: boom")
    board.withdrawn(GENERATE)
    assert report(board).reasons == ("ns/backend/generate: withdrawn; canary failed: boom",)
    board.probed(GENERATE, None)
    assert report(board).reasons == ("ns/backend/generate: withdrawn",)
    board.registered(GENERATE)
    assert report(board).ready


def test_an_endpoint_that_has_to_prove_itself_is_not_ready_before() -> None:
    board = HealthBoard()
    board.add(GENERATE, proven=False)
    board.registered(GENERATE)
    (reason,) = report(board).reasons
    assert reason.startswith("ns/backend/generate: no request has been answered yet")
    board.probed(GENERATE, None)
    assert report(board).ready


def test_set_health_status_overrides_both_ways_and_may_be_taken_back() -> None:
    board = serving(GENERATE)
    board.override(False)
    assert report(board).reasons == ("set_health_status(False) was called",)
    assert report(board).endpoints == {"generate": True}
    board.withdrawn(GENERATE)
    board.override(True)
    assert report(board).ready
    assert report(board).endpoints == {"generate": False}
    board.override(None)
    assert not report(board).ready
    empty = HealthBoard()
    empty.override(True)
    assert report(empty).ready


def test_an_override_hides_neither_a_stuck_engine_nor_a_shutdown() -> None:
    board = serving(GENERATE)
    board.override(True)
    board.probed(GENERATE, "canary failed: no item within 3 s")
    assert report(board).reasons == ("ns/backend/generate: canary failed: no item within 3 s",)
    board.probed(GENERATE, None)
    assert report(board).ready
    board.shut_down()
    assert not report(board).ready


def test_shutting_down_makes_every_endpoint_not_ready_for_good_with_the_first_reason() -> None:
    board = serving(GENERATE, EMBED)
    board.shut_down("SIGTERM")
    board.shut_down("again")
    board.registered(GENERATE)
    said = report(board)
    assert (said.ready, said.reasons) == (False, ("SIGTERM",))
    assert said.endpoints == {"generate": False, "embed": False}


def test_a_registry_that_cannot_be_reached_is_shown_and_makes_nobody_unready() -> None:
    board = serving(GENERATE)
    board.registry_stale(1_700_000_000.25, "connection refused")
    said = report(board)
    assert said.ready
    assert said.registry is not None
    assert said.registry.stale_since == "2023-11-14T22:13:20.250Z"
    assert said.registry.reason == "connection refused"
    board.registry_fresh()
    assert report(board).registry is None


def test_late_news_of_an_endpoint_that_is_gone_says_nothing() -> None:
    board = serving(GENERATE)
    board.remove(EMBED)
    for tell in (board.registered, board.withdrawn):
        tell(EMBED)
    board.probed(EMBED, "canary failed: x")
    assert board.get(EMBED) is None
    assert report(board).endpoints == {"generate": True}


def test_an_endpoint_added_again_begins_anew() -> None:
    board = serving(GENERATE)
    board.probed(GENERATE, "canary failed: x")
    board.add(GENERATE)
    assert report(board).reasons == ("ns/backend/generate: starting",)


def test_a_report_carries_uptime_and_identity() -> None:
    said = HealthBoard(instance_id=0xAB12).report(6.5)
    assert (said.uptime_s, said.instance_id) == (6.5, 0xAB12)
