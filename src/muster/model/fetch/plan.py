"""Which of a card's files to fetch, and under which name each appears: a decision over the card.

One name means one file. Typed slots (configuration, tokenizer, template, ...) come first and in the
card's order; an extra file that would take the name of another file with other bytes is left out,
because a loader that looks for that name must get what the card's slot says. Code is left out too,
unless the settings allow it: whoever can publish a card must not be able to place it here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from muster.config.settings import FetchSettings
from muster.digest import Digest
from muster.errors import ContentError, MusterError, TooLargeError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.fetch.place import file_name
from muster.model.fetch.resolved import LeftOut
from muster.model.identity import FileRole

__all__ = ["CODE_SUFFIXES", "FetchPlan", "PlannedFile", "is_code", "left_out_for", "plan_fetch"]

CODE_SUFFIXES = frozenset({".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat"})
"""Endings of files that something may execute."""


class PlannedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file to fetch. ``linked`` says whether it has its name in the view.

    It has not when an earlier slot has a file of that name: the slot then uses the blob itself.
    """

    name: str
    file: CheckedFile
    role: FileRole
    linked: bool

    @property
    def required(self) -> bool:
        """Whether the card cannot be served without it: extra files may fail."""
        return self.role is not FileRole.EXTRA


class FetchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All files to fetch, typed slots first, and the extra files that cannot be."""

    files: tuple[PlannedFile, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def listed(self) -> dict[str, Digest]:
        """What each name in the card's view may stand for."""
        return {each.name: each.file.checksum for each in self.files if each.linked}


class _LeftOutError(ContentError):
    """An extra file is not wanted, for a reason that has a code of its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def plan_fetch(card: ModelDeploymentCard, settings: FetchSettings) -> FetchPlan:
    """Decide what to fetch for ``card``.

    Raises:
        ContentError: A typed slot's file has no name, an unsafe one, or that of code. An extra file
            of that kind is left out.
        TooLargeError: The typed slots' files alone are more than the limit for a card.
    """
    taken: dict[str, Digest] = {}
    files: list[PlannedFile] = []
    left_out: list[LeftOut] = []
    total_bytes = 0
    for role, file in _typed(card):
        name = file_name(file)
        if is_code(name) and not settings.allow_code:
            raise ContentError(
                f"the card's {role} is code: {name!r}",
                hint="code is fetched only with MUSTER_FETCH_ALLOW_CODE=1",
            )
        holder = taken.setdefault(name, file.checksum)
        files.append(PlannedFile(name=name, file=file, role=role, linked=holder == file.checksum))
        total_bytes += file.size or 0
    if total_bytes > settings.max_card_bytes:
        raise TooLargeError(
            f"the card's files are {total_bytes} bytes, exceeds cap {settings.max_card_bytes}",
            hint="MUSTER_FETCH_MAX_CARD_BYTES sets the limit",
        )
    for file in card.extra_files:
        try:
            name = file_name(file)
            _check_extra(name, file, len(files), total_bytes, settings)
            _claim(taken, name, file.checksum)
        except ContentError as error:
            left_out.append(left_out_for(file, error))
        else:
            files.append(PlannedFile(name=name, file=file, role=FileRole.EXTRA, linked=True))
            total_bytes += file.size or 0
    return FetchPlan(files=tuple(files), left_out=tuple(left_out))


def is_code(name: str) -> bool:
    """Whether a file of this name may be executed by something."""
    return PurePosixPath(name.lower()).suffix in CODE_SUFFIXES


def left_out_for(file: CheckedFile, error: MusterError) -> LeftOut:
    """``file`` as left out because of ``error``."""
    return LeftOut(
        name=file.basename() or "", digest=file.checksum, code=error.code, message=error.message
    )


def _typed(card: ModelDeploymentCard) -> Iterator[tuple[FileRole, CheckedFile]]:
    for role, slot in (
        (FileRole.MODEL_INFO, card.model_info),
        (FileRole.TOKENIZER, card.tokenizer),
        (FileRole.PROMPT_FORMATTER, card.prompt_formatter),
        (FileRole.CHAT_TEMPLATE, card.chat_template_file),
        (FileRole.GEN_CONFIG, card.gen_config),
    ):
        if slot is not None:
            yield role, slot.file


def _check_extra(
    name: str, file: CheckedFile, count: int, total_bytes: int, settings: FetchSettings
) -> None:
    """Refuse an extra file that the settings do not want."""
    if is_code(name) and not settings.allow_code:
        raise _LeftOutError(
            "code_file", f"{name!r} is code; MUSTER_FETCH_ALLOW_CODE=1 would fetch it"
        )
    if count >= settings.max_files:
        raise _LeftOutError(
            "limit", f"the card names more than {settings.max_files} files (MUSTER_FETCH_MAX_FILES)"
        )
    if total_bytes + (file.size or 0) > settings.max_card_bytes:
        raise _LeftOutError(
            "limit",
            f"with {name!r} the card's files would be more than {settings.max_card_bytes} bytes "
            "(MUSTER_FETCH_MAX_CARD_BYTES)",
        )


def _claim(taken: dict[str, Digest], name: str, digest: Digest) -> None:
    holder = taken.setdefault(name, digest)
    if holder != digest:
        raise _LeftOutError(
            "name_taken",
            f"extra file {name!r} ({digest}) has the name of another file of the card ({holder}); "
            "rename one of them in the model's directory and register the model again",
        )
