from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from muster.testing.site import Site

pytest.register_assert_rewrite("tests.clients.core")

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@pytest.fixture(scope="session")
def peer() -> Path:
    """The virtual environment of a real ai-dynamo."""
    place = os.environ.get("PEER")
    if not place:
        pytest.skip("PEER names no environment with ai-dynamo in it")
    path = Path(place).resolve()
    probe = [str(path / "bin" / "python"), "-c", "import dynamo._core"]
    try:
        works = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except OSError:
        works = False
    if not works:
        pytest.skip(f"there is no working ai-dynamo in {path}")
    return path


@pytest.fixture
def site(tmp_path: Path, peer: Path) -> Iterator[Site]:
    """A registry of its own for real processes of both kinds."""
    with Site(tmp_path, peer) as site:
        yield site


@pytest.fixture(scope="session")
def deepseek() -> Path:
    """A real model directory with a vocabulary of 128,000."""
    path = SHARED / "models" / "deepseek"
    if not path.is_dir():
        pytest.skip("../shared/models/deepseek is not here")
    return path
