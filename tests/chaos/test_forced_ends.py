"""Signals at the worst of times leave nothing in the registry.

Its time to live is ten minutes here: what is gone was taken out by the process itself.
"""

from __future__ import annotations

import itertools
import json
import signal
import time
from pathlib import Path

import pytest

from muster.testing.chaos import Backend, SmallFleet
from muster.testing.site import Site
from muster.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(120)

TERM, INT = signal.SIGTERM, signal.SIGINT


@pytest.mark.parametrize(("first", "second"), [(TERM, TERM), (INT, INT), (TERM, INT)])
def test_a_second_signal_ends_a_worker_at_once_and_leaves_nothing(
    lasting: Backend, site: Site, model: Path, first: signal.Signals, second: signal.Signals
) -> None:
    fleet = SmallFleet(site, lasting, model, options=("--speedup-ratio", "0.1"))
    fleet.start(workers=1, frontends=1)
    (worker,), (frontend,) = fleet.workers, fleet.frontends
    events = frontend.stream(fleet.NAME, max_tokens=1000)
    next(events)
    assert len(lasting.keys()) == 2  # its instance and its card
    worker.signal(first)
    wait_until(lambda: not lasting.keys(), "withdrawn")
    assert worker.is_running()  # for its stream
    worker.signal(second)
    assert worker.wait() == -second
    assert lasting.keys() == set()
    *_, error, done = events
    assert json.loads(error)["error"]["message"]
    assert done == "[DONE]"


def test_two_signals_with_nothing_between_leave_nothing(
    lasting: Backend, site: Site, model: Path
) -> None:
    fleet = SmallFleet(site, lasting, model, options=("--speedup-ratio", "0.1"))
    fleet.start(workers=1, frontends=1)
    (worker,), (frontend,) = fleet.workers, fleet.frontends
    events = frontend.stream(fleet.NAME, max_tokens=1000)
    next(events)
    assert lasting.keys()
    worker.signal(TERM)
    worker.signal(INT)
    assert worker.wait() in (-TERM, -INT)
    assert lasting.keys() == set()
    assert [*events][-1] == "[DONE]"


LOADING = """
import asyncio, time
from muster.config.settings import Settings
from muster.worker.engines.echo import EchoEngine
from muster.worker.serve import WorkerOptions, serve_worker

def load_engine(directory):
    print("loading", flush=True)
    time.sleep({seconds})
    print("loaded", flush=True)
    return EchoEngine()

settings = Settings.load(flags={{"system.port": 0}})
options = WorkerOptions(model_path={model!r}, model_name="tiny")
asyncio.run(serve_worker(options, settings, load_engine, lambda report: print("registered")))
"""


@pytest.mark.parametrize(
    ("number", "seconds", "code"), [(TERM, 1, 0), (INT, 1, 0), (TERM, 30, -TERM)]
)
def test_a_signal_while_the_engine_loads_leaves_nothing(
    lasting: Backend, site: Site, model: Path, number: signal.Signals, seconds: int, code: int
) -> None:
    script = LOADING.format(model=str(model), seconds=seconds)
    worker = site.script(script, role="loading", **lasting.environment)
    wait_until(lambda: "loading" in worker.text(), "loading")
    worker.signal(number)
    assert worker.wait() == code  # it does not wait for what takes half a minute
    assert "registered" not in worker.text().splitlines()
    assert lasting.keys() == set()


def test_a_signal_at_any_moment_of_a_start_leaves_nothing(
    lasting: Backend, site: Site, model: Path
) -> None:
    fleet = SmallFleet(site, lasting, model)
    began = time.monotonic()
    worker = fleet.new_worker()
    wait_until(lambda: "serving" in worker.text(), "serving")
    start_s = time.monotonic() - began
    worker.stop()
    for step, number in zip(range(5, 15), itertools.cycle([TERM, INT]), strict=False):
        worker = fleet.new_worker()
        time.sleep(start_s * step / 12)
        worker.signal(number)
        code = worker.wait()
        assert lasting.keys() == set(), (step, worker.text())
        assert code in (0, 130, -TERM, -INT), (step, worker.text())
