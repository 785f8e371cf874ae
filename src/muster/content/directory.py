"""The store's own directories: made private, and never somebody else's.

Who can write a directory of the store can put anything under a name that was just verified, and a
link in a directory's place sends what we write elsewhere. So from the root down each level must be
a directory proper, ours or the system administrator's. How the root is reached is the user's affair:
links above it are followed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path
from typing import Final

from muster.content.disk import store_errors
from muster.errors import StoreError
from muster.log import facts

__all__ = ["can_be_trusted", "check_directory", "make_private_directory", "warn_if_open"]

logger = logging.getLogger(__name__)

_WARNED: Final[set[Path]] = set()


def can_be_trusted(owner: int, *, user: int) -> bool:
    """Whether ``user`` may rely on a directory of ``owner``, both numbers of users.

    Our own, and the administrator's, who can do anything to us anyway (a container's volume is
    often made by him). The administrator himself may work in anybody's.
    """
    return user == 0 or owner in (user, 0)


def check_directory(root: Path, path: Path) -> bool:
    """See that what exists from ``root`` down to ``path``, both included, may be relied on.

    Returns:
        Whether all of it exists.

    Raises:
        StoreError: A level is a link, not a directory, or somebody else's.
    """
    for level in _levels(root, path):
        with store_errors(f"cannot look at {level}"):
            try:
                status = level.lstat()
            except FileNotFoundError:
                return False
        _check(level, status)
    return True


def make_private_directory(root: Path, path: Path) -> None:
    """Make ``path`` and what is missing between it and ``root``, ``root`` included, with mode 0700.

    What exists keeps its mode: the directory may be shared on purpose. Directories above ``root``
    get the default mode.

    Raises:
        StoreError: The disk refuses, or what exists may not be relied on; see ``check_directory``.
    """
    if check_directory(root, path):
        return
    with store_errors(f"cannot make {path}"):
        root.parent.mkdir(parents=True, exist_ok=True)
        for level in _levels(root, path):
            # mkdir does not follow a link; what another process made meanwhile is checked below
            with contextlib.suppress(FileExistsError):
                level.mkdir(mode=0o700)
    check_directory(root, path)


def warn_if_open(root: Path) -> None:
    """Say, once a process, that anybody may replace what is in the store, or the store itself."""
    for directory in (root.parent, root):
        if directory in _WARNED:
            continue
        with contextlib.suppress(OSError):
            mode = directory.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                _WARNED.add(directory)
                logger.warning(
                    "any user of this machine can replace files of the cache; take the right to "
                    "write from others (chmod o-w), or set MUSTER_CACHE_DIR to another directory",
                    extra=facts(cache=root, writable=directory),
                )


def _levels(root: Path, path: Path) -> list[Path]:
    levels = [root]
    for part in path.relative_to(root).parts:
        levels.append(levels[-1] / part)
    return levels


def _check(level: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise StoreError(
            f"{level} is a link, and the cache does not write through links",
            hint="remove it, or set MUSTER_CACHE_DIR to the directory it leads to",
        )
    if not stat.S_ISDIR(status.st_mode):
        raise StoreError(
            f"{level} is not a directory",
            hint="remove it, or set MUSTER_CACHE_DIR to another directory",
        )
    user = os.geteuid()
    if not can_be_trusted(status.st_uid, user=user):
        raise StoreError(
            f"{level} belongs to user {status.st_uid}, and this process runs as user {user}",
            hint="set MUSTER_CACHE_DIR to a directory of your own, or have this one given to you "
            "(chown)",
        )
