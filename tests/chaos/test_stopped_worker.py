"""A worker hangs for longer than its lease lasts, and wakes up again."""

from __future__ import annotations

import logging
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from muster.testing.chaos import Backend, SmallFleet, instance_of, view_of
from muster.testing.etcd_server import EtcdServer
from muster.testing.load import Load
from muster.testing.replies import Ending
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(150)

logger = logging.getLogger("chaos")

TTL_S = 5
STOPPED_S = 20.0
SLACK_S = 5.0
DEADLINE_S = 30.0


def requests_of(fleet: SmallFleet, number: int) -> float:
    """How many requests a worker has had."""
    url = f"{fleet.status_url(fleet.workers[number])}/metrics"
    with urllib.request.urlopen(url, timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith("dynamo_component_requests_total")
    )


def test_a_worker_that_hangs_for_20_s_is_left_out_and_comes_back(
    etcd: EtcdServer, site: Site, model: Path
) -> None:
    backend = Backend.of_etcd(etcd, ttl_s=TTL_S)
    fleet = SmallFleet(site, backend, model)
    fleet.start(workers=3, frontends=2)
    everybody = fleet.living()
    hanging = fleet.workers[0]

    with Load(fleet.urls, fleet.NAME, deadline_s=DEADLINE_S) as load:
        wait_until(lambda: requests_of(fleet, 0) > 10, "it has requests")
        hanging.signal(signal.SIGSTOP)
        wakes = time.monotonic() + STOPPED_S
        left = everybody - {instance_of(hanging)}
        wait_until(
            lambda: all(view_of(frontend)["health"] == left for frontend in fleet.frontends),
            "both leave it out",
            timeout_s=TTL_S + SLACK_S,
        )
        # Whoever asks from now on is not to meet it.
        left_out = time.monotonic()
        time.sleep(max(0.0, wakes - left_out))
        hanging.signal(signal.SIGCONT)
        woken = time.monotonic()
        fleet.settle(TTL_S + SLACK_S)
        assert fleet.living() == everybody
        had = requests_of(fleet, 0)
        wait_until(lambda: requests_of(fleet, 0) > had + 10, "it has requests again")

    logger.info("a worker hung: %s", load.summary())
    for outcome in load.outcomes:
        assert outcome.ending in (Ending.ANSWER, Ending.ERROR), outcome
        if left_out < outcome.began < woken:
            assert outcome.ending is Ending.ANSWER, outcome
    assert load.lost == []
    assert len(load.outcomes) > 200
