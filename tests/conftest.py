"""What holds for all tests."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes depends on what else the machine does, and says nothing of the code.
settings.register_profile("muster", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("muster")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo what a test does to the process's log: a command run in process configures it."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    levels = {name: logging.getLogger(name).level for name in ("", *root.manager.loggerDict)}
    disabled = root.manager.disable
    yield
    root.handlers[:] = handlers
    root.manager.disable = disabled
    for name in ("", *list(root.manager.loggerDict)):
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))
