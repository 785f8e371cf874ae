"""Looks at the registered files now and then, and says when one is no longer what was registered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from muster.content.disk import Fingerprint
from muster.content.hashing import hash_file
from muster.content.snapshot import Snapshot
from muster.errors import ContentError
from muster.log import facts
from muster.model.publish.drift import Drift, News, Seen, Source, compare, find_drift

__all__ = ["DriftWatcher"]

logger = logging.getLogger(__name__)


class DriftWatcher:
    """Watches the files that snapshots were taken of.

    Args:
        interval_s: Seconds between two looks.
        tell: Gets the paths of all files that have drifted, whenever that set may have changed.
    """

    def __init__(self, interval_s: float, tell: Callable[[frozenset[Path]], None]) -> None:
        self._interval_s = interval_s
        self._tell = tell
        self._sources: frozenset[Source] = frozenset()
        self._seen: dict[Path, Seen] = {}
        self._drift: dict[Source, Drift] = {}

    def drift(self) -> tuple[Drift, ...]:
        """What has drifted as of the last look, by path."""
        return tuple(self._drift[source] for source in sorted(self._drift))

    def watch(self, snapshots: Iterable[Snapshot]) -> None:
        """Watch the files of these snapshots from now on, and no others."""
        fresh = {Source(each.source, each.digest): each for each in snapshots}
        for source in fresh.keys() - self._sources:
            # The snapshot is the latest look at the file, later than any round's
            self._seen[source.path] = Seen(
                fresh[source].fingerprint, source.digest, provisional=True
            )
        self._sources = frozenset(fresh)
        paths = {source.path for source in fresh}
        self._seen = {path: seen for path, seen in self._seen.items() if path in paths}
        self._judge()

    async def run(self) -> None:
        """Look at the files at each interval, for ever."""
        while True:
            await asyncio.sleep(self._interval_s)
            await self.look()

    async def look(self) -> None:
        """Look at every file once, and hash again those that have changed."""
        looked_at = dict(self._seen)
        found = await asyncio.to_thread(_look, looked_at)
        for path, seen in found.items():
            if self._seen.get(path) is looked_at[path]:  # else a registration came in between
                self._seen[path] = seen
        self._judge()

    def _judge(self) -> None:
        before = self._drift
        self._drift = find_drift(self._sources, self._seen)
        _say(compare(before, self._drift, self._sources))
        if before.keys() != self._drift.keys():
            self._tell(frozenset(source.path for source in self._drift))


def _look(seen: Mapping[Path, Seen]) -> dict[Path, Seen]:
    """Those that have changed, as they are now. Blocks."""
    found: dict[Path, Seen] = {}
    for path, last in seen.items():
        fingerprint = _fingerprint(path)
        if not last.is_still(fingerprint):
            found[path] = Seen(fingerprint, None)
            if fingerprint is not None:
                try:
                    found[path] = Seen(fingerprint, hash_file(path)[0])
                except ContentError as error:
                    logger.debug("a changed file cannot be read: %s", error)
    return found


def _fingerprint(path: Path) -> Fingerprint | None:
    try:
        return Fingerprint.of(path.stat())
    except OSError:
        return None


def _say(news: News) -> None:
    for drift in news.drifted:
        logger.warning(
            "a registered file has changed on disk; what was registered is still what is served",
            extra=facts(
                file_name=drift.path,
                registered=drift.registered,
                now=drift.now or "gone or unreadable",
            ),
        )
    for source in news.returned:
        logger.info(
            "a registered file is as registered again",
            extra=facts(file_name=source.path, digest=source.digest),
        )
