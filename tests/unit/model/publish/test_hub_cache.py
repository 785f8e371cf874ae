"""Finding a model in a hub's cache, laid out as huggingface_hub lays it out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from muster.config.settings import MetadataSettings
from muster.errors import CardError
from muster.model.publish.hub_cache import find_model, find_snapshot, has_weights, hub_cache_root


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
    found = find_model("Org/Model", settings(tmp_path), ignore_weights=True)
    assert found == snapshot


def test_a_snapshot_without_weights_is_found_only_by_who_ignores_them(tmp_path: Path) -> None:
    snapshot = cached(tmp_path)
    with pytest.raises(CardError, match="without its weights") as caught:
        find_model("Org/Model", settings(tmp_path))
    assert "ignore_weights=True" in caught.value.hint
    (snapshot / "model.safetensors").write_text("w")
    assert find_model("Org/Model", settings(tmp_path)) == snapshot


@pytest.mark.parametrize(
    ("files", "complete"),
    [
        ({"config.json"}, False),
        ({"model.safetensors"}, True),
        ({"pytorch_model.bin"}, True),
        ({"model.safetensors.index.json"}, False),
        ({"model.safetensors.index.json", "a.safetensors"}, False),
        ({"model.safetensors.index.json", "a.safetensors", "b.safetensors"}, True),
        # an index of a form that was not downloaded takes nothing from one that was
        ({"model.safetensors.index.json", "pytorch_model.bin"}, True),
        ({"pytorch_model.bin.index.json", "model.safetensors.index.json", "a.safetensors"}, False),
    ],
)
def test_weights_are_there_when_one_form_of_them_is_whole(
    tmp_path: Path, files: set[str], complete: bool
) -> None:
    shards = {"x": "a.safetensors", "y": "b.safetensors"}
    for name in files:
        (tmp_path / name).write_text(json.dumps({"weight_map": shards}))
    assert has_weights(tmp_path) is complete


@pytest.mark.parametrize("index", ["", "[]", '{"weight_map": 5}', "\xff"])
def test_an_index_that_cannot_be_read_names_no_shards(tmp_path: Path, index: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(index.encode("latin-1"))
    assert not has_weights(tmp_path)
    (tmp_path / "a.safetensors").write_text("w")
    assert has_weights(tmp_path)


def test_weights_that_are_dangling_links_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to("nothing")
    assert not has_weights(tmp_path)
    assert not has_weights(tmp_path / "no")


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
