import sys
from pathlib import Path

import pytest

from muster.content.exchange import exchange


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    one, other = tmp_path / "one", tmp_path / "other ü"
    for directory in (one, other):
        directory.mkdir()
        (directory / f"from {directory.name}").touch()
    if not exchange(one, other):
        pytest.skip("this file system cannot exchange")
    return other, one


def test_two_directories_swap_names(pair: tuple[Path, Path]) -> None:
    one, other = pair
    assert [path.name for path in one.iterdir()] == ["from one"]
    assert [path.name for path in other.iterdir()] == ["from other ü"]


def test_what_is_missing_is_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        exchange(pair[0], tmp_path / "missing")


def test_a_link_is_swapped_and_not_what_it_leads_to(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(pair[0])
    exchange(link, pair[1])
    assert pair[1].readlink() == pair[0]
    assert link.is_dir()
    assert not link.is_symlink()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has it since 3.15")
def test_linux_can_exchange(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    (tmp_path / "other").touch()
    assert exchange(tmp_path / "one", tmp_path / "other")
