"""Find a model in a Hugging Face hub's cache on this host, without asking the hub."""

from __future__ import annotations

import os
from pathlib import Path

from muster.config.settings import MetadataSettings
from muster.errors import CardError

__all__ = ["find_model", "find_snapshot", "hub_cache_root"]


def find_model(model_path: str, settings: MetadataSettings) -> Path:
    """The model's directory: ``model_path`` itself, or its snapshot in a hub's cache. Blocks.

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
    return snapshot


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


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises where it may not look
