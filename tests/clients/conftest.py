from __future__ import annotations

from collections.abc import Iterator

import pytest

from muster.testing.deployment import Background, Deployment, Running, background, deployed

pytest.register_assert_rewrite("tests.clients.core")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Background[Running]]:
    """A frontend and its engines on another thread, for as many tests as like."""
    with background(deployed(tmp_path_factory.mktemp("deployed"))) as running:
        yield running


@pytest.fixture(params=["mock", "echo"])
def deployment(request: pytest.FixtureRequest, running: Background[Running]) -> Deployment:
    """The frontend in front of either engine."""
    return running.value.of(request.param)


@pytest.fixture
def echo(running: Background[Running]) -> Deployment:
    """The echo: a chat is answered with its last message, a completion with its prompt."""
    return running.value.of("echo")


@pytest.fixture
def mock(running: Background[Running]) -> Deployment:
    """The mock: as many words as it is let."""
    return running.value.of("mock")
