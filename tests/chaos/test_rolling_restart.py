"""Workers replaced one after the other under load: nobody outside notices."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from muster.testing.chaos import Backend, SmallFleet
from muster.testing.load import Load
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(150)

logger = logging.getLogger("chaos")

LENGTHS = (4, 40, 500)
"""Tokens of a reply; the longest stream takes some three seconds."""


def test_a_rolling_restart_loses_no_request(lasting: Backend, site: Site, model: Path) -> None:
    fleet = SmallFleet(site, lasting, model)
    fleet.start(workers=3, frontends=2)
    before = fleet.living()
    with Load(fleet.urls, fleet.NAME, lengths=LENGTHS) as load:
        time.sleep(1)
        for old in [*fleet.workers]:
            goes_on = len(load.outcomes) + 30
            fleet.replace(old)
            assert old.stop() == 0
            wait_until(fleet.living, "the new worker serves")
            while len(load.outcomes) < goes_on:
                time.sleep(0.05)
    logger.info("rolling restart on %s: %s", lasting.name, load.summary())
    assert load.failures() == []
    assert load.lost == []
    assert load.summary().streams > 50
    fleet.settle()
    assert before.isdisjoint(fleet.living())
    keys = lasting.keys()
    assert not [key for key in keys if key.rpartition("/")[2] in before]
    assert len([key for key in keys if any(each in key for each in fleet.living())]) == len(keys)
