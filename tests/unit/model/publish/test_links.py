"""Which links in a model's directory are followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.model.publish.links import LinkRule


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A hub cache with two repositories and a shared store."""
    root = tmp_path / "hub"
    for repository in ("models--A--one", "models--A--two"):
        (root / repository / "blobs").mkdir(parents=True)
        (root / repository / "blobs" / "etag").write_text(repository)
        (root / repository / "snapshots" / "abc").mkdir(parents=True)
    (root / "blobs" / "ab").mkdir(parents=True)
    (root / "blobs" / "ab" / "abcdef").write_text("shared")
    (root / "token").write_text("secret")
    return root


def link(directory: Path, target: str | Path) -> Path:
    path = directory / "config.json"
    path.symlink_to(target)
    return path


def test_a_snapshots_links_lead_to_its_repositorys_blobs(cache: Path) -> None:
    snapshot = cache / "models--A--one" / "snapshots" / "abc"
    assert LinkRule.of(snapshot).follows(link(snapshot, "../../blobs/etag"))


def test_a_snapshots_links_may_lead_to_the_caches_shared_store(cache: Path) -> None:
    snapshot = cache / "models--A--one" / "snapshots" / "abc"
    assert LinkRule.of(snapshot).follows(link(snapshot, "../../../blobs/ab/abcdef"))


@pytest.mark.parametrize(
    "target",
    [
        *("../../../token", "/etc/passwd", "../../refs/main", "../../../models--A--two/blobs/etag"),
        *("../../blobs/../../token", "../../../blobs/abcdef", "../../../blobs/xy/abcdef"),
        *("../../blobs/deeper/etag", "../../blobs"),
    ],
)
def test_other_links_of_a_snapshot_are_not_followed(cache: Path, target: str) -> None:
    snapshot = cache / "models--A--one" / "snapshots" / "abc"
    assert not LinkRule.of(snapshot).follows(link(snapshot, target))


def test_a_snapshot_reached_through_a_link_is_the_same_snapshot(
    cache: Path, tmp_path: Path
) -> None:
    snapshot = cache / "models--A--one" / "snapshots" / "abc"
    link(snapshot, "../../blobs/etag")
    (tmp_path / "mine").symlink_to(snapshot)
    assert LinkRule.of(tmp_path / "mine").follows(tmp_path / "mine" / "config.json")


def test_a_cache_whose_folders_are_links_themselves_works(cache: Path, tmp_path: Path) -> None:
    repository = cache / "models--A--one"
    (repository / "blobs").rename(tmp_path / "big-disk")
    (repository / "blobs").symlink_to(tmp_path / "big-disk")
    repository.rename(tmp_path / "elsewhere")
    repository.symlink_to(tmp_path / "elsewhere")
    snapshot = repository / "snapshots" / "abc"
    assert LinkRule.of(snapshot).follows(link(snapshot, "../../blobs/etag"))


def test_a_directory_of_links_to_a_snapshots_files_works(cache: Path, tmp_path: Path) -> None:
    snapshot = cache / "models--A--one" / "snapshots" / "abc"
    link(snapshot, "../../blobs/etag")
    mine = tmp_path / "mine"
    mine.mkdir()
    assert LinkRule.of(mine).follows(link(mine, snapshot / "config.json"))


def test_a_link_within_a_directory_reached_through_a_link_is_followed(tmp_path: Path) -> None:
    real = tmp_path / "real"
    (real / "..data").mkdir(parents=True)
    (real / "..data" / "config.json").write_text("{}")
    link(real, "..data/config.json")  # as Kubernetes mounts a ConfigMap
    (tmp_path / "mount").symlink_to(real)
    assert LinkRule.of(tmp_path / "mount").follows(tmp_path / "mount" / "config.json")


@pytest.mark.parametrize("target", ["../secret", "../blobs/secret", "../model-2/secret", "/"])
def test_a_plain_directorys_links_stay_in_it(tmp_path: Path, target: str) -> None:
    for place in ("model", "model-2", "blobs"):
        (tmp_path / place).mkdir()
    assert not LinkRule.of(tmp_path / "model").follows(link(tmp_path / "model", target))


def test_a_relative_directory_means_the_same(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = cache / "models--A--one" / "snapshots" / "abc"
    link(snapshot, "../../blobs/etag")
    monkeypatch.chdir(cache / "models--A--one")
    assert LinkRule.of("snapshots/abc") == LinkRule.of(snapshot)
    assert LinkRule.of("snapshots/abc").follows("snapshots/abc/config.json")
