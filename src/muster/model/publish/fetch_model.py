"""Where a model's files are on this host."""

from __future__ import annotations

import asyncio
import os

from muster.config.settings import Settings
from muster.model.publish.hub_cache import find_model

__all__ = ["fetch_llm", "fetch_model"]


async def fetch_model(
    remote_name: str | os.PathLike[str],
    ignore_weights: bool = False,
    *,
    settings: Settings | None = None,
) -> str:
    """The local directory of a model.

    Unlike Dynamo's function of this name it downloads nothing: it finds what is here.

    Args:
        remote_name: The model's name on the hub, or a directory.
        ignore_weights: Be content with a snapshot that has no weights.
        settings: Where the hub's cache is; by default as the environment says.

    Raises:
        CardError: There is no such directory, and the cache on this host does not have the model.
        ConfigError: A setting is wrong.
    """
    where = (settings or Settings.load()).metadata
    directory = await asyncio.to_thread(
        find_model, os.fspath(remote_name), where, ignore_weights=ignore_weights
    )
    return str(directory)


fetch_llm = fetch_model
"""The older name, as with Dynamo."""
