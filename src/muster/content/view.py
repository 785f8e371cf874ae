"""Views: directories in which a model's blobs appear under the names its loaders look for.

A view holds links and no bytes; the names are the only thing it adds. Its directory is named by the
card's digest, so two sets of files that share a model's name never share a view.

A view is built aside and takes its name in one step. One that is there already is kept if it is
exactly right, else exchanged for the new one. So a reader finds the whole old view or the whole new
one, and nothing is ever in it that its card does not list. The old one stays whole, too, for whoever
is listing it just then; a later exchange or the sweep removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from muster.content.directory import check_directory, make_private_directory
from muster.content.disk import remove_entry, store_errors
from muster.content.exchange import exchange
from muster.content.liveness import process_lives
from muster.content.name import check_file_name
from muster.content.staging import LIVE_NAMES, temporary_name
from muster.content.sweep import is_abandoned
from muster.errors import ContentError, StoreError

__all__ = ["Exchange", "link_view", "view_directory"]

Exchange = Callable[[Path, Path], bool]
"""Swaps two names in one step; gives ``False`` if it cannot. See ``exchange.exchange``."""

_SLUG = re.compile(r"[a-z0-9_-]*")
_MDCSUM = re.compile(r"[0-9a-f]{64}")
_TRIES = 8
"""Others who make the same view at once can only be as many as this."""


def view_directory(root: Path, slug: str, mdcsum: str) -> Path:
    """``by-slug/<slug>/<mdcsum>`` under ``root``, or ``by-slug/<mdcsum>`` for an empty slug.

    Raises:
        ContentError: If the slug or the digest has a character it may not have.
    """
    if not _SLUG.fullmatch(slug) or not _MDCSUM.fullmatch(mdcsum):
        raise ContentError(f"cannot make a view for slug {slug!r} and mdcsum {mdcsum!r}")
    return root / "by-slug" / slug / mdcsum


def link_view(
    root: Path,
    directory: Path,
    names: Mapping[str, Path],
    *,
    listed: Mapping[str, Path],
    now: float,
    swap: Exchange = exchange,
) -> None:
    """Make ``directory`` hold a link for each of ``names``, and nothing that is not ``listed``.

    Args:
        root: The store's root.
        directory: The view; see ``view_directory``.
        names: Where each name is to lead.
        listed: Further names that may be there if they lead where this says, and to something:
            another process may have got a file that this one did not.
        now: The wall clock's time, in seconds since the epoch.
        swap: Exchanges two directories.

    Raises:
        ContentError: A name is unsafe; then nothing is made.
        StoreError: The disk refused, or a directory on the way may not be relied on.
    """
    for name in names:
        check_file_name(name)
    with store_errors(f"cannot make the view {directory}"):
        for _ in range(_TRIES):
            make_private_directory(root, directory.parent)
            check_directory(root, directory)
            there = _links(directory)
            wanted = _wanted(there or {}, names, listed)
            if there == wanted:
                return
            if _put(directory, wanted, listed, swap, now):
                _remove_old(directory, now)
                return
    raise StoreError(
        f"cannot make the view {directory}: others change it all the time",
        hint="see which process writes there",
    )


def _links(directory: Path) -> dict[str, Path | None] | None:
    """Where every entry leads, ``None`` for one that is no link; ``None`` without a directory."""
    found: dict[str, Path | None] = {}
    try:
        entries = list(directory.iterdir())
    except FileNotFoundError:
        return None
    for entry in entries:
        found[entry.name] = None
        with contextlib.suppress(OSError):
            found[entry.name] = entry.readlink()
    return found


def _wanted(
    there: Mapping[str, Path | None], names: Mapping[str, Path], listed: Mapping[str, Path]
) -> dict[str, Path]:
    """``names``, and what is there of the other listed names and right."""
    others = {
        name: target
        for name, target in listed.items()
        if name not in names and there.get(name) == target and target.exists()
    }
    return {**others, **names}


def _put(
    directory: Path,
    links: Mapping[str, Path],
    listed: Mapping[str, Path],
    swap: Exchange,
    now: float,
) -> bool:
    """Build the view aside and give it its name; ``False`` if somebody changed it meanwhile."""
    aside = directory.with_name(temporary_name(f".{directory.name}"))
    keep = False
    LIVE_NAMES.add(aside.name)
    try:
        try:
            aside.mkdir(mode=0o700)
        except FileNotFoundError:
            return False  # its parent was empty, and somebody tidied up
        for name, target in links.items():
            (aside / name).symlink_to(target)
        try:
            aside.rename(directory)  # works if there is none, or an empty one
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return True
        try:
            with contextlib.suppress(PermissionError):
                os.utime(directory, (now, now))  # its age as an old view counts from here
            keep = swap(aside, directory)
            if keep:
                _take_over(aside, directory, links, listed)
            else:
                _mend(directory, links)
        except FileNotFoundError:
            return False  # it went away
        return True
    finally:
        if not keep:
            with contextlib.suppress(OSError):
                shutil.rmtree(aside)
        LIVE_NAMES.discard(aside.name)


def _remove_old(directory: Path, now: float) -> None:
    """Remove what earlier exchanges of this view left, once nobody can be listing it any more."""
    for entry in directory.parent.iterdir():
        if entry.name.startswith(f".{directory.name}."):
            with contextlib.suppress(OSError):
                age_s = now - entry.lstat().st_mtime
                if is_abandoned(entry.name, age_s=age_s, process_lives=process_lives):
                    shutil.rmtree(entry)


def _take_over(
    old: Path, directory: Path, links: Mapping[str, Path], listed: Mapping[str, Path]
) -> None:
    """Add what another process put into the view between our look at it and the exchange."""
    for name, target in _wanted(_links(old) or {}, links, listed).items():
        if name not in links:
            _replace(directory / name, target)


def _mend(directory: Path, links: Mapping[str, Path]) -> None:
    """Put ``directory`` right in place, link by link, where directories cannot be exchanged."""
    there = _links(directory) or {}
    for name, target in links.items():
        if there.get(name) != target:
            _replace(directory / name, target)
    _remove(directory / name for name in there if name not in links)


def _replace(link: Path, target: Path) -> None:
    """Make ``link`` lead to ``target``, whatever it was before; readers see old or new."""
    temporary = link.with_name(temporary_name(""))
    LIVE_NAMES.add(temporary.name)
    try:
        temporary.symlink_to(target)
        try:
            temporary.replace(link)
        except IsADirectoryError:
            shutil.rmtree(link)
            temporary.replace(link)
    finally:
        temporary.unlink(missing_ok=True)
        LIVE_NAMES.discard(temporary.name)


def _remove(entries: Iterable[Path]) -> None:
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):  # somebody else removed it
            remove_entry(entry)
