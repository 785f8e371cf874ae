from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.testing.chaos import Backend
from muster.testing.etcd_server import EtcdServer
from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A place of its own for real processes."""
    with Site(tmp_path) as site:
        yield site


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model's directory."""
    directory = tmp_path / "model"
    directory.mkdir()
    return write_tiny_model(directory)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    """A real etcd. Ask for it before the site, so that it outlives the site's processes."""
    if not EtcdServer.is_installed():
        pytest.skip("there is no etcd on this machine's PATH")
    directory = tmp_path / "etcd"
    directory.mkdir()
    with EtcdServer(directory) as server:
        yield server


@pytest.fixture(params=["file", "etcd"])
def lasting(request: pytest.FixtureRequest) -> Backend:
    """A registry that forgets nobody by itself within a test: what is gone was taken out.

    Ask for it before the site, so that it outlives the site's processes.
    """
    if request.param == "file":
        return Backend.file(request.getfixturevalue("site"), ttl_s=600)
    return Backend.of_etcd(request.getfixturevalue("etcd"), ttl_s=600)
