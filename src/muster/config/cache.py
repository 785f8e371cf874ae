"""Settings of the frontend's cache."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from muster.config.checks import MIB, at_least
from muster.config.setting import setting

__all__ = ["CacheSettings"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """The frontend's cache of verified files."""

    directory: Path | None = setting(
        None,
        env="MUSTER_CACHE_DIR",
        help="Directory of the cache; by default muster in the user's cache directory.",
    )
    max_bytes: int | None = setting(
        None,
        env="MUSTER_CACHE_MAX_BYTES",
        help="Budget of the whole cache; files nobody uses make room. Unlimited by default.",
        unit="bytes",
        check=at_least(0),
    )
    min_free_bytes: int = setting(
        64 * MIB,
        env="MUSTER_CACHE_MIN_FREE_BYTES",
        help="Space a fetch leaves free on the cache's disk.",
        unit="bytes",
        check=at_least(0),
    )
