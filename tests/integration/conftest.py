from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.testing.site import Site
from muster.testing.tiny_model import write_tiny_model


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A registry of its own for real processes."""
    with Site(tmp_path) as site:
        yield site


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model's directory."""
    directory = tmp_path / "model"
    directory.mkdir()
    return write_tiny_model(directory)
