"""``kill -9`` of any process at random, under load: requests end, and the fleet is right again.

``MUSTER_CHAOS_SECS`` says for how long, ``MUSTER_CHAOS_SEED`` repeats a run's choices.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from muster.testing.chaos import Backend, SmallFleet
from muster.testing.etcd_server import EtcdServer
from muster.testing.load import Load
from muster.testing.outcomes import Lost
from muster.testing.process import Process
from muster.testing.replies import Ending
from muster.testing.site import Site
from muster.testing.waiting import wait_until

SECONDS = float(os.environ.get("MUSTER_CHAOS_SECS", "120"))

pytestmark = pytest.mark.timeout(SECONDS + 120)

logger = logging.getLogger("chaos")

TTL_S = 5
DEADLINE_S = 30.0
SLACK_S = 5.0
"""For etcd to find leases that ran out, and for everybody to hear of it."""


def listens(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


class Reaper:
    """Kills processes of a fleet, and starts others in their places a moment later."""

    def __init__(self, fleet: SmallFleet, draw: random.Random) -> None:
        self._fleet = fleet
        self._draw = draw
        self._gone: dict[Process, float] = {}
        self._away: dict[str, float] = {}
        self.kills: list[str] = []
        self.absences: list[tuple[str, float, float]] = []
        """A frontend's address, when it was killed, and when it listened again."""

    def run(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        next_kill = time.monotonic()
        while (now := time.monotonic()) < ends:
            if now >= next_kill:
                self._kill()
                next_kill = now + self._draw.uniform(1.5, 4)
            self._restart(due=now)
            self._notice_returns()
            time.sleep(0.02)
        self._restart(due=math.inf)
        wait_until(self._all_are_back, "every frontend listens")

    def _kill(self) -> None:
        living = [process for process in self._fleet.processes() if process.is_running()]
        if not living:
            return
        victim = self._draw.choice(living)
        for api in self._fleet.frontends:
            if api.process is victim:
                self._away.setdefault(api.url, time.monotonic())
        victim.kill()
        self.kills.append(victim.name)
        self._gone[victim] = time.monotonic() + self._draw.uniform(0.3, 2)

    def _restart(self, *, due: float) -> None:
        for process, at in [*self._gone.items()]:
            if at <= due:
                del self._gone[process]
                self._fleet.replace(process)

    def _notice_returns(self) -> None:
        for url, since in [*self._away.items()]:
            if listens(url):
                del self._away[url]
                self.absences.append((url, since, time.monotonic()))

    def _all_are_back(self) -> bool:
        self._notice_returns()
        return not self._away

    def explains(self, lost: Lost) -> bool:
        """Whether the frontend had been killed when, or soon after, the attempt was made."""
        return any(
            url == lost.url and since <= lost.at and lost.began <= until
            for url, since, until in self.absences
        )


def test_random_kills_leave_no_request_without_an_end_and_the_fleet_right(
    etcd: EtcdServer, site: Site, model: Path
) -> None:
    seed = int(os.environ.get("MUSTER_CHAOS_SEED") or random.randrange(1 << 32))
    logger.info("MUSTER_CHAOS_SEED=%d", seed)
    fleet = SmallFleet(site, Backend.of_etcd(etcd, ttl_s=TTL_S), model)
    fleet.start(workers=3, frontends=2)
    with Load(fleet.urls, fleet.NAME, deadline_s=DEADLINE_S, seed=seed) as load:
        reaper = Reaper(fleet, random.Random(seed))
        reaper.run(SECONDS)
        wait_until(fleet.living, "every worker serves")
        fleet.settle(TTL_S + SLACK_S)
        calm = time.monotonic()
        time.sleep(2)

    logger.info("%d kills in %g s: %s", len(reaper.kills), SECONDS, load.summary())
    for message, count in Counter(each.message for each in load.failures()).most_common(10):
        logger.info("%d x %s", count, message)
    for outcome in load.outcomes:
        assert outcome.ending in (Ending.ANSWER, Ending.ERROR), outcome
        if outcome.began > calm:
            assert outcome.ending is Ending.ANSWER, outcome
    assert [lost for lost in load.lost if not reaper.explains(lost)] == []
    summary = load.summary()
    assert summary.answers > 0.8 * summary.requests
    assert len(reaper.kills) > SECONDS / 8
