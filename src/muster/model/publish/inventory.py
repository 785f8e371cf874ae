"""Take stock of a model: which files it is made of, which stay, and its identity.

This is the same whether or not its worker serves the files, so that identities agree between workers
that do and workers that do not.
"""

from __future__ import annotations

import os

import msgspec

from muster.config.settings import MetadataSettings
from muster.digest import Digest
from muster.errors import CardError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.identity import compute_identity, files_of
from muster.model.publish.harvest import LeftOutFile, LeftOutReason, harvest_extra_files
from muster.model.publish.links import LinkRule

__all__ = ["Inventory", "check_links", "take_inventory"]

_MAX_EXTRA_BYTES = MetadataSettings().max_extra_bytes


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's directory holds.

    Attributes:
        card: The card with the directory's other files added, at their paths.
        left_out: What stays, and why; the files of the typed slots are not listed.
        identity: See ``muster.model.identity``.
    """

    card: ModelDeploymentCard
    left_out: tuple[LeftOutFile, ...]
    identity: Digest


def take_inventory(
    card: ModelDeploymentCard,
    directory: str | os.PathLike[str],
    *,
    max_extra_bytes: int = _MAX_EXTRA_BYTES,
) -> Inventory:
    """List and hash the files that go with ``card``. Blocks.

    Args:
        card: As loaded from the directory: its typed slots are local paths.
        directory: The model's directory.
        max_extra_bytes: Size of the largest file that travels without a slot; by default the
            setting's default.

    Raises:
        CardError: If the directory cannot be listed.
        ContentError: If a file cannot be read.
    """
    taken = {name for file in card.iter_typed_files() if (name := file.basename()) is not None}
    harvest = harvest_extra_files(directory, taken, max_bytes=max_extra_bytes)
    extra = tuple(CheckedFile.from_disk(path) for path in harvest.kept)
    whole = msgspec.structs.replace(card, extra_files=card.extra_files + extra)
    return Inventory(
        card=whole,
        left_out=tuple(e for e in harvest.left_out if e.reason is not LeftOutReason.TYPED),
        identity=compute_identity(files_of(whole)),
    )


def check_links(card: ModelDeploymentCard, directory: str | os.PathLike[str]) -> None:
    """Refuse to serve a typed slot's file that is a link out of the model's directory. Blocks.

    A custom chat template was named by whoever registers the model, wherever it is.

    Raises:
        CardError: There is one.
    """
    rule = LinkRule.of(directory)
    for file, is_custom in card.iter_metadata_files():
        if is_custom or file.path is None or not os.path.islink(file.path):  # noqa: PTH114 - spelling
            continue
        if not rule.follows(file.path):
            raise CardError(
                f"{file.path} is a link to {os.path.realpath(file.path)}, outside the model's "
                f"directory",
                hint="put the file itself there; links are followed within the directory and into "
                "a hub cache's blobs. Without self-hosting the model can be registered as it is",
            )
