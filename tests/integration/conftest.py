from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from muster.testing.clients import Tiny
from muster.testing.scripted import Script, ScriptedModel
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


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model's directory, to be read only."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny(tiny_directory: Path) -> Tiny:
    """Makes scripted models of the small model."""

    def make(script: Script | None = None, **options: Any) -> ScriptedModel:
        return ScriptedModel(tiny_directory, script=script, **options)

    return make
