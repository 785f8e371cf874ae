"""Where the cache is: a decision over settings and an environment, without touching either's source."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from muster.config.settings import CacheSettings
from muster.errors import ConfigError

__all__ = ["cache_root"]

_NAME = "muster"


def cache_root(settings: CacheSettings, environ: Mapping[str, str]) -> Path:
    """The cache's directory, always absolute.

    The setting wins (a leading ``~/`` means HOME, a relative one counts from the working
    directory). Else it is ``muster`` in ``XDG_CACHE_HOME``, else ``.cache/muster`` in ``HOME``. A
    variable that is unset, empty or relative is passed over, as the XDG base directory
    specification demands: a cache that moves with the working directory is never meant.

    Args:
        settings: The cache's settings.
        environ: The environment that holds XDG_CACHE_HOME and HOME.

    Raises:
        ConfigError: If neither the setting nor a variable says where.
    """
    home = _absolute(environ.get("HOME"))
    if settings.directory is not None:
        return _chosen(settings.directory, home)
    base = _absolute(environ.get("XDG_CACHE_HOME"))
    if base is not None:
        return base / _NAME
    if home is not None:
        return home / ".cache" / _NAME
    raise ConfigError(
        "no place for the cache: XDG_CACHE_HOME and HOME are unset, empty or relative",
        hint="set MUSTER_CACHE_DIR to a directory this process may write",
    )


def _chosen(directory: Path, home: Path | None) -> Path:
    if directory.parts[:1] == ("~",):
        if home is None:
            raise ConfigError(
                f"the cache directory {directory} starts with '~', but HOME is not an absolute path",
                hint="give the directory in full",
            )
        directory = home.joinpath(*directory.parts[1:])
    # abspath only adds the working directory; unlike resolve() it reads no links from the disk
    return Path(os.path.abspath(directory))  # noqa: PTH100 - must not follow links


def _absolute(text: str | None) -> Path | None:
    return Path(text) if text and Path(text).is_absolute() else None
