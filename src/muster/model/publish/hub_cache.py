"""Find a model in a Hugging Face hub's cache on this host, without asking the hub."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from muster.config.settings import MetadataSettings
from muster.errors import CardError
from muster.model.publish.harvest import is_weights

__all__ = ["find_model", "find_snapshot", "has_weights", "hub_cache_root"]

_INDEX_ENDINGS = (".safetensors.index.json", ".bin.index.json")


def find_model(
    model_path: str, settings: MetadataSettings, *, ignore_weights: bool = False
) -> Path:
    """The model's directory: ``model_path`` itself, or its snapshot in a hub's cache. Blocks.

    Args:
        model_path: A directory, or a model's name on the hub.
        settings: Where the cache is.
        ignore_weights: Be content with a snapshot that has the metadata alone. A directory is
            taken as it is either way.

    Raises:
        CardError: If it is neither, or empty.
    """
    if not model_path:
        raise CardError("no model path is given", hint="give the model's directory or hub name")
    if os.path.exists(model_path):  # noqa: PTH110 - Path.exists raises on names that cannot be
        return Path(model_path)
    root = hub_cache_root(settings.hub_cache, settings.hf_home)
    snapshot = find_snapshot(root, model_path) if root is not None else None
    if snapshot is None:
        raise CardError(
            f"{model_path!r} is neither a directory nor a model in the hub cache {root}",
            hint="give the model's directory, or download it first; nothing is downloaded here",
        )
    if not ignore_weights and not has_weights(snapshot):
        raise CardError(
            f"the hub cache {root} has {model_path!r} without its weights, or without some of them",
            hint="download them, or pass ignore_weights=True if nothing here loads them",
        )
    return snapshot


def has_weights(snapshot: Path) -> bool:
    """Whether a snapshot has weights in one form at least: a file of them, or all of its shards.

    An index whose shards are not all there does not count, nor do those shards. Reads the file
    system.
    """
    present = {name for name in _names_in(snapshot) if _is_file(snapshot / name)}
    indexes = [_shards_in(snapshot / name) for name in present if name.endswith(_INDEX_ENDINGS)]
    sharded = {shard for shards in indexes for shard in shards}
    if any(is_weights(name) for name in present - sharded):
        return True
    return any(shards and all(_is_file(snapshot / each) for each in shards) for shards in indexes)


def hub_cache_root(hub_cache: Path | None, hf_home: Path | None) -> Path | None:
    """The cache's directory: ``HF_HUB_CACHE``, else ``HF_HOME/hub``, else in the user's home.

    ``None`` if there is no home directory either.
    """
    if hub_cache is not None:
        return hub_cache
    if hf_home is not None:
        return hf_home / "hub"
    try:
        return Path.home() / ".cache" / "huggingface" / "hub"
    except RuntimeError:
        return None


def find_snapshot(root: Path, repository: str) -> Path | None:
    """The directory of ``repository``'s main revision in the cache, or ``None``.

    A snapshot counts when its ``config.json`` can be read. Reads the file system.
    """
    folder = root / ("models--" + repository.replace("/", "--"))
    try:
        revision = (folder / "refs" / "main").read_text("ascii").strip()
    except (OSError, ValueError):
        return None
    snapshot = folder / "snapshots" / revision
    return snapshot if revision and _is_file(snapshot / "config.json") else None


def _names_in(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - names
    except OSError:
        return []


class _Index(msgspec.Struct):
    weight_map: dict[str, str] = {}


def _shards_in(index: Path) -> set[str]:
    """The files an index of shards names; none if it cannot be read."""
    try:
        return {*msgspec.json.decode(index.read_bytes(), type=_Index).weight_map.values()}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return set()


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises where it may not look
