"""Views: directories in which a model's blobs appear under the names its loaders look for.

A view holds links and no bytes; the names are the only thing it adds. Its directory is named by the
card's digest, so two sets of files that share a model's name never share a view.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from muster.content.disk import make_private_directory, store_errors
from muster.content.name import check_file_name
from muster.content.staging import LIVE_NAMES, temporary_name
from muster.digest import Digest
from muster.errors import ContentError

__all__ = ["link_view", "view_directory"]

_SLUG = re.compile(r"[a-z0-9_-]*")
_MDCSUM = re.compile(r"[0-9a-f]{64}")


def view_directory(root: Path, slug: str, mdcsum: str) -> Path:
    """``by-slug/<slug>/<mdcsum>`` under ``root``, or ``by-slug/<mdcsum>`` for an empty slug.

    Raises:
        ContentError: If the slug or the digest has a character it may not have.
    """
    if not _SLUG.fullmatch(slug) or not _MDCSUM.fullmatch(mdcsum):
        raise ContentError(f"cannot make a view for slug {slug!r} and mdcsum {mdcsum!r}")
    return root / "by-slug" / slug / mdcsum


def link_view(root: Path, blobs: Path, slug: str, mdcsum: str, names: Mapping[str, Digest]) -> Path:
    """Make every name in ``names`` a link to its blob; see ``BlobStore.link_view``."""
    directory = view_directory(root, slug, mdcsum)
    for name in names:
        check_file_name(name)
    with store_errors(f"cannot make the view {directory}"):
        make_private_directory(root, directory)
        for name, digest in names.items():
            _link(directory / name, blobs / digest.hex)
    return directory


def _link(link: Path, target: Path) -> None:
    """Make ``link`` point at ``target``, whatever it was before; readers see old or new."""
    try:
        if link.readlink() == target:
            return
    except OSError:
        pass  # missing, or not a link: both end with the right link in place
    temporary = link.with_name(temporary_name(""))
    LIVE_NAMES.add(temporary.name)
    try:
        temporary.symlink_to(target)
        try:
            temporary.replace(link)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    finally:
        LIVE_NAMES.discard(temporary.name)
