"""etcd hangs for half a minute and comes back empty, under load: no request fails."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from muster.testing.api import Api
from muster.testing.chaos import Backend, SmallFleet, instance_of, view_of
from muster.testing.etcd_server import EtcdServer
from muster.testing.load import Load
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(150)

logger = logging.getLogger("chaos")

TTL_S = 5
HANG_S = 30.0
SLACK_S = 5.0
"""For etcd to find leases that ran out, and for everybody to hear of it."""


def stale_since(frontend: Api) -> Any:
    return frontend.get("/health").get("registry", {}).get("stale_since")


def test_etcd_hangs_for_30_s_then_is_wiped_and_no_request_fails(
    etcd: EtcdServer, site: Site, model: Path
) -> None:
    backend = Backend.of_etcd(etcd, ttl_s=TTL_S)
    fleet = SmallFleet(site, backend, model)
    fleet.start(workers=4, frontends=2)
    everybody = fleet.living()
    doomed = fleet.workers[-1]
    assert [stale_since(frontend) for frontend in fleet.frontends] == [None, None]

    with Load(fleet.urls, fleet.NAME) as load:
        time.sleep(2)
        etcd.pause()
        resumes = time.monotonic() + HANG_S
        wait_until(lambda: all(map(stale_since, fleet.frontends)), "both say they are stale")
        # With nothing in flight, so that whoever is asked from now on has been dead all along.
        with load.quiet():
            doomed.kill()
        while time.monotonic() < resumes:
            before = len(load.outcomes)
            time.sleep(1)
            assert len(load.outcomes) > before
            for frontend in fleet.frontends:
                assert view_of(frontend)["health"] == everybody  # the last known one
                assert stale_since(frontend)
        etcd.wipe()
        time.sleep(1)
        etcd.start()
        fleet.settle(TTL_S + SLACK_S)
        wait_until(lambda: not any(map(stale_since, fleet.frontends)), "both are up to date")
        time.sleep(2)

    logger.info("etcd hung, then wiped: %s", load.summary())
    assert load.failures() == []
    assert load.lost == []
    assert fleet.living() == everybody - {instance_of(doomed)}
    keys = backend.keys()
    assert {key.rpartition("/")[2] for key in keys} == fleet.living()
    assert len(keys) == 2 * len(fleet.living())  # an instance and a card each
