"""Which files on disk are no longer what was registered; pure.

A file is hashed again only when its fingerprint (what the file system says of it) has changed. What
a worker serves is its private copy and does not change with the file; drift is news for people: the
next restart will publish another model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from muster.content.disk import Fingerprint
from muster.digest import Digest

__all__ = ["Drift", "News", "Seen", "Source", "compare", "find_drift"]


class Source(msgspec.Struct, frozen=True, order=True):
    """A file as it was registered. One path may be registered again with other content."""

    path: Path
    digest: Digest


class Seen(msgspec.Struct, frozen=True):
    """A file as it was last looked at; both are ``None`` if it is gone or cannot be read.

    A ``provisional`` one is to be hashed again whatever its fingerprint is: a write in the same tick
    of the file system's clock as a copy leaves no trace there.
    """

    fingerprint: Fingerprint | None
    digest: Digest | None
    provisional: bool = False

    def is_still(self, fingerprint: Fingerprint | None) -> bool:
        """Whether a file that looks like ``fingerprint`` need not be hashed again."""
        return not self.provisional and self.fingerprint == fingerprint


class Drift(msgspec.Struct, frozen=True):
    """A file that differs from its registration; ``now`` is ``None`` if it is gone or unreadable."""

    path: Path
    registered: Digest
    now: Digest | None


class News(msgspec.Struct, frozen=True):
    """What two rounds differ in, sorted: what drifted (again), and what is as registered again."""

    drifted: tuple[Drift, ...]
    returned: tuple[Source, ...]


def find_drift(sources: Iterable[Source], seen: Mapping[Path, Seen]) -> dict[Source, Drift]:
    """The registrations whose file is other than registered. One never looked at has not drifted."""
    return {
        source: Drift(source.path, source.digest, now.digest)
        for source in sources
        if (now := seen.get(source.path)) is not None and now.digest != source.digest
    }


def compare(
    before: Mapping[Source, Drift], after: Mapping[Source, Drift], registered: Iterable[Source]
) -> News:
    """What is to be said after a round; a registration that has ended is no news."""
    drifted = (drift for source, drift in after.items() if before.get(source) != drift)
    returned = (source for source in registered if source in before and source not in after)
    return News(
        tuple(sorted(drifted, key=lambda drift: (drift.path, drift.registered))),
        tuple(sorted(set(returned))),
    )
