"""What of a model's directory travels: its card, its files and why others stay."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from muster.config.settings import MetadataSettings
from muster.errors import CardError
from muster.model.card import ModelDeploymentCard
from muster.model.pack.manifest import LeftBehind, PackManifest
from muster.model.publish.inventory import take_inventory

__all__ = ["ModelContents", "survey_model"]


class ModelContents(msgspec.Struct, frozen=True, kw_only=True):
    """A model as a worker that serves its files would publish it.

    ``card`` has the extra files and local paths; ``manifest`` is the same without places.
    """

    card: ModelDeploymentCard
    manifest: PackManifest

    def path_of(self, name: str) -> Path:
        """Where the file of that name is.

        Raises:
            KeyError: There is none.
        """
        for file, _ in self.card.iter_metadata_files():
            if file.basename() == name and file.path is not None:
                return Path(file.path)
        raise KeyError(name)


def survey_model(
    directory: Path,
    name: str,
    *,
    custom_template: Path | None = None,
    settings: MetadataSettings | None = None,
) -> ModelContents:
    """Look at the model in ``directory``. Blocks: it hashes the files.

    Args:
        directory: The model's directory.
        name: What clients call the model.
        custom_template: A chat template to use instead of the model's own.
        settings: Say how large a file may be that has no slot; by default the defaults.

    Raises:
        CardError: The directory makes no card, or two of its files have one name.
        ContentError: A file cannot be read, or has a name that cannot travel.
    """
    try:
        bare = ModelDeploymentCard.load(directory, name, custom_template_path=custom_template)
    except CardError as error:
        hint = error.hint or "give the directory that holds the model's config.json"
        raise CardError(error.message, hint=hint) from error
    limit = (settings or MetadataSettings()).max_extra_bytes
    found = take_inventory(bare, directory, max_extra_bytes=limit)
    left_out = tuple(
        LeftBehind(name=_shown(left.name), reason=left.reason.value) for left in found.left_out
    )
    return ModelContents(card=found.card, manifest=PackManifest.of_card(found.card, left_out))


def _shown(name: str) -> str:
    """A name that need not be UTF-8 as text that is."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
