"""How each file of a model came here, as the build that fetched it reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from muster.digest import Digest
from muster.frontend.report import FileReport
from muster.model.card import ModelDeploymentCard
from muster.model.fetch.resolved import FetchProgress, FetchState, LeftOut
from muster.model.identity import FileRole, files_of

__all__ = ["FILE_STATES", "FileTable"]

FILE_STATES = {
    "waiting": "Nothing has been asked for it yet.",
    "cached": "It was in the cache, verified, or came there by another process of this host.",
    "fetching": "Its bytes are coming.",
    "verifying": "All its bytes are here and are compared with its digest.",
    "verified": "It was fetched and its bytes are right.",
    "failed": "It could not be had, for the reason given.",
    "left_out": "It is an extra file that the model is served without, for the reason given.",
}
"""What each state of a file means."""

_SETTLED = (FetchState.CACHED, FetchState.VERIFIED, FetchState.FAILED)


class FileTable:
    """The files of one card. Names need not be unique: role and digest tell files apart.

    Args:
        card: The card.
    """

    def __init__(self, card: ModelDeploymentCard) -> None:
        sizes = {file.checksum: file.size for file, _ in card.iter_metadata_files()}
        self._files = {
            (file.role, file.name, file.digest): FileReport(
                name=file.name,
                role=file.role,
                digest=str(file.digest),
                size_bytes=sizes.get(file.digest),
            )
            for file in files_of(card)
        }
        # kept, not counted when asked: that is after every step of every file
        self._states: Counter[str] = Counter(file.state for file in self._files.values())

    def note(self, progress: FetchProgress) -> None:
        """Take in one step of one file."""
        self._put(
            (progress.role, progress.name, progress.digest),
            FileReport(
                name=progress.name,
                role=progress.role,
                digest=str(progress.digest),
                size_bytes=progress.total_bytes,
                state=progress.state,
                done_bytes=progress.done_bytes,
                seconds=round(progress.seconds, 3),
                source=progress.place,
                code=progress.code,
                message=progress.reason,
            ),
        )

    def leave_out(self, files: Iterable[LeftOut]) -> None:
        """Note which extra files the model is served without."""
        for left in files:
            for key, report in self._files.items():
                if key[0] is FileRole.EXTRA and key[2] == left.digest:
                    self._put(
                        key,
                        FileReport(
                            name=report.name,
                            role=report.role,
                            digest=report.digest,
                            size_bytes=report.size_bytes,
                            state="left_out",
                            done_bytes=report.done_bytes,
                            seconds=report.seconds,
                            source=report.source,
                            code=left.code,
                            message=left.message,
                        ),
                    )

    def _put(self, key: tuple[FileRole, str, Digest], report: FileReport) -> None:
        before = self._files.get(key)
        if before is not None:
            self._states[before.state] -= 1
        self._states[report.state] += 1
        self._files[key] = report

    @property
    def done_count(self) -> int:
        """How many are settled, well or not."""
        return sum(self._states[state] for state in _SETTLED)

    @property
    def total_count(self) -> int:
        """How many there are."""
        return len(self._files)

    @property
    def is_verifying(self) -> bool:
        """Whether all bytes are here and the last ones are being compared."""
        verifying = self._states[FetchState.VERIFYING]
        return verifying > 0 and self.done_count + verifying == self.total_count

    def reports(self) -> tuple[FileReport, ...]:
        """All of them, typed slots first."""
        return tuple(self._files.values())
