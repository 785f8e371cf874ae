"""A model's identity: which files it is made of, whoever hosts them and wherever they lie.

Unlike the card's digest (``mdcsum``) it does not know where a model was mounted, by which scheme its
files are reached, or whether its worker serves them. Two workers with one identity give a frontend
the same bytes under the same names.

BLAKE3-256 over a label, then each file's role, name and digest, sorted, each text framed by its
length as a little-endian u32.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

import msgspec
from blake3 import blake3

from muster.digest import Digest
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile

__all__ = ["FileRole", "IdentityFile", "compute_identity", "files_of"]

_LABEL = b"muster/model-identity/v1\n"


class FileRole(enum.StrEnum):
    """What a file is to its card: the name of its slot, or ``extra``."""

    MODEL_INFO = "model_info"
    TOKENIZER = "tokenizer"
    PROMPT_FORMATTER = "prompt_formatter"
    CHAT_TEMPLATE = "chat_template_file"
    GEN_CONFIG = "gen_config"
    EXTRA = "extra"


class IdentityFile(msgspec.Struct, frozen=True, order=True):
    """One file: its role, its real name (not percent-encoded), its digest."""

    role: FileRole
    name: str
    digest: Digest


def files_of(card: ModelDeploymentCard) -> Iterator[IdentityFile]:
    """The files a card lists, under their real names whether they are at paths or at URLs."""
    for role, slot in (
        (FileRole.MODEL_INFO, card.model_info),
        (FileRole.TOKENIZER, card.tokenizer),
        (FileRole.PROMPT_FORMATTER, card.prompt_formatter),
        (FileRole.CHAT_TEMPLATE, card.chat_template_file),
        (FileRole.GEN_CONFIG, card.gen_config),
    ):
        if slot is not None:
            yield IdentityFile(role, _real_name(slot.file), slot.file.checksum)
    for file in card.extra_files:
        yield IdentityFile(FileRole.EXTRA, _real_name(file), file.checksum)


def _real_name(file: CheckedFile) -> str:
    if file.path is not None:
        return os.path.basename(file.path)  # noqa: PTH119 - a Path has a name for ".", too
    return unquote_to_bytes(file.basename() or "").decode("utf-8", "surrogateescape")


def compute_identity(files: Iterable[IdentityFile]) -> Digest:
    """The identity of a model made of ``files``, in whatever order they come."""
    records = sorted((file.role.value, file.name, file.digest.hex) for file in files)
    hasher = blake3(_LABEL)
    for record in records:
        for text in record:
            data = text.encode("utf-8", "surrogateescape")
            hasher.update(len(data).to_bytes(4, "little") + data)
    return Digest(hasher.hexdigest())
