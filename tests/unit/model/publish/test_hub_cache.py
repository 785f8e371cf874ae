"""Finding a model in a hub's cache, laid out as huggingface_hub lays it out."""

from __future__ import annotations

from pathlib import Path

import pytest

from muster.config.settings import MetadataSettings
from muster.errors import CardError
from muster.model.publish.hub_cache import find_model, find_snapshot, hub_cache_root


def cached(root: Path, repository: str = "Org/Model", revision: str = "abc") -> Path:
    """A cache with one repository; returns its snapshot."""
    folder = root / ("models--" + repository.replace("/", "--"))
    snapshot = folder / "snapshots" / revision
    for directory in (folder / "blobs", folder / "refs", snapshot):
        directory.mkdir(parents=True)
    (folder / "refs" / "main").write_text(revision)
    (folder / "blobs" / ("0" * 40)).write_text("{}")
    (snapshot / "config.json").symlink_to(Path("../../blobs") / ("0" * 40))
    return snapshot


def settings(root: Path) -> MetadataSettings:
    return MetadataSettings(hub_cache=root)


def test_a_hub_name_is_found_by_the_revision_that_main_names(tmp_path: Path) -> None:
    snapshot = cached(tmp_path)
    other = snapshot.parent / "older"
    other.mkdir()
    (other / "config.json").write_text("{}")
    assert find_model("Org/Model", settings(tmp_path)) == snapshot


def test_a_directory_wins_over_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path / "hub")
    here = tmp_path / "Org" / "Model"
    here.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_model("Org/Model", settings(tmp_path / "hub")) == Path("Org/Model")


def test_a_name_without_an_owner_is_found_too(tmp_path: Path) -> None:
    assert find_snapshot(tmp_path, "gpt2") is None
    assert cached(tmp_path, "gpt2") == find_snapshot(tmp_path, "gpt2")


def test_a_snapshot_without_a_readable_config_does_not_count(tmp_path: Path) -> None:
    snapshot = cached(tmp_path)
    (snapshot.parent.parent / "blobs" / ("0" * 40)).unlink()  # the link dangles
    assert find_snapshot(tmp_path, "Org/Model") is None


@pytest.mark.parametrize("revision", ["", "\n", "é", "gone"])
def test_a_main_that_names_no_snapshot_finds_nothing(tmp_path: Path, revision: str) -> None:
    folder = cached(tmp_path).parent.parent
    (folder / "refs" / "main").write_text(revision, "utf-8")
    assert find_snapshot(tmp_path, "Org/Model") is None


@pytest.mark.parametrize("name", ["Org/Absent", "x" * 300, "nul\0byte", "sur\ud800rogate"])
def test_what_is_neither_is_refused_naming_the_cache(tmp_path: Path, name: str) -> None:
    with pytest.raises(CardError, match="neither a directory nor a model in the hub cache") as e:
        find_model(name, settings(tmp_path))
    assert str(tmp_path) in e.value.message
    assert "nothing is downloaded" in e.value.hint


def test_an_empty_path_is_not_the_working_directory(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no model path is given"):
        find_model("", settings(tmp_path))


def test_the_cache_is_where_its_variables_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hub_cache_root(Path("/a"), Path("/b")) == Path("/a")
    assert hub_cache_root(None, Path("/b")) == Path("/b/hub")
    assert hub_cache_root(None, None) == tmp_path / ".cache" / "huggingface" / "hub"
