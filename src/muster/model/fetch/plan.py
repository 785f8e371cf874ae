"""Which of a card's files to fetch, and under which name each appears: a decision over the card.

One name means one file. Typed slots (configuration, tokenizer, template, ...) come first and in the
card's order; an extra file that would take the name of another file with other bytes is left out,
because a loader that looks for that name must get what the card's slot says.
"""

from __future__ import annotations

import msgspec

from muster.digest import Digest
from muster.errors import ContentError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.fetch.resolved import LeftOut
from muster.model.fetch.source import file_name

__all__ = ["FetchPlan", "PlannedFile", "plan_fetch"]


class PlannedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file to fetch. ``linked`` says whether it has its name in the view.

    It has not when an earlier slot has a file of that name: the slot then uses the blob itself.
    """

    name: str
    file: CheckedFile
    required: bool
    linked: bool


class FetchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All files to fetch, typed slots first, and the extra files that cannot be."""

    files: tuple[PlannedFile, ...]
    left_out: tuple[LeftOut, ...]


def plan_fetch(card: ModelDeploymentCard) -> FetchPlan:
    """Decide what to fetch for ``card``.

    Raises:
        ContentError: A typed slot's file has no name, or an unsafe one. An extra file of that kind
            is left out.
    """
    taken: dict[str, Digest] = {}
    files: list[PlannedFile] = []
    left_out: list[LeftOut] = []
    for file in card.iter_typed_files():
        name = file_name(file)
        holder = taken.setdefault(name, file.checksum)
        files.append(
            PlannedFile(name=name, file=file, required=True, linked=holder == file.checksum)
        )
    for file in card.extra_files:
        try:
            name = file_name(file)
            _claim(taken, name, file.checksum)
        except ContentError as error:
            left_out.append(left_out_for(file, error))
        else:
            files.append(PlannedFile(name=name, file=file, required=False, linked=True))
    return FetchPlan(files=tuple(files), left_out=tuple(left_out))


def left_out_for(file: CheckedFile, error: ContentError) -> LeftOut:
    """``file`` as left out because of ``error``."""
    return LeftOut(
        name=file.basename() or "", digest=file.checksum, code=error.code, message=error.message
    )


def _claim(taken: dict[str, Digest], name: str, digest: Digest) -> None:
    holder = taken.setdefault(name, digest)
    if holder != digest:
        raise ContentError(
            f"extra file {name!r} ({digest}) has the name of another file of the card ({holder})",
            hint="rename one of them in the model's directory and register the model again",
        )
