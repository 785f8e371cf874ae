"""Rewrite a card so that its files are fetched from this worker, or from a hub; no I/O but hashing.

What is served is decided here and done by the caller: a ``HostedCard`` lists the entries for the
metadata registry beside the card that names their URLs.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from urllib.parse import quote

import msgspec

from muster.errors import CardError
from muster.log import facts
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.publish.harvest import harvest_extra_files
from muster.names import EndpointId
from muster.runtime.metadata_registry import BASE_SUFFIX, Artifact, MetadataKey
from muster.runtime.metadata_route import format_path

__all__ = ["HostedCard", "point_at_hub", "self_hosted", "with_extra_files"]

logger = logging.getLogger(__name__)


class HostedCard(msgspec.Struct, frozen=True):
    """A card whose files are at this worker, and the files to serve for it."""

    card: ModelDeploymentCard
    entries: dict[MetadataKey, Artifact]


def with_extra_files(card: ModelDeploymentCard, directory: Path) -> ModelDeploymentCard:
    """``card`` with the other files of its model's directory, hashed. Blocks.

    Raises:
        CardError: If the directory cannot be listed.
        ContentError: If a file cannot be read.
    """
    taken = {name for file in card.iter_typed_files() if (name := file.basename()) is not None}
    harvest = harvest_extra_files(directory, taken)
    for left in harvest.left_out:
        logger.debug("file stays out of the card", extra=facts(file=left.name, reason=left.reason))
    extra = tuple(CheckedFile.from_disk(path) for path in harvest.kept)
    return msgspec.structs.replace(card, extra_files=card.extra_files + extra)


def self_hosted(
    card: ModelDeploymentCard, *, base_url: str, endpoint: EndpointId, lora_slug: str | None = None
) -> HostedCard:
    """``card`` with every local file at this worker's metadata route.

    A file keeps the name it has where the card says it is, also when that is a link into a hub's
    cache; its bytes come from the link's target. Files that are URLs already stay as they are.

    Args:
        card: A card with local paths.
        base_url: ``http://host:port`` of the status server.
        endpoint: The endpoint that serves the model.
        lora_slug: For a LoRA's card.

    Raises:
        CardError: If two files have one name: they could not be told apart at the other end.
    """
    suffix = BASE_SUFFIX if lora_slug is None else lora_slug
    entries: dict[MetadataKey, Artifact] = {}

    def host(file: CheckedFile) -> CheckedFile:
        name = file.basename()
        if file.path is None or name is None:
            return file
        key = MetadataKey(
            endpoint.namespace, endpoint.component, endpoint.name, card.slug, suffix, name
        )
        artifact = Artifact(Path(os.path.abspath(file.path)), file.checksum, file.size)  # noqa: PTH100 - must not follow links
        other = entries.setdefault(key, artifact)
        if other.path != artifact.path:
            raise CardError(
                f"two files of {card.display_name!r} are called {name!r}: "
                f"{other.path} and {artifact.path}",
                hint="rename one of them, for example the custom chat template",
            )
        return file.with_url(base_url + format_path(key))

    return HostedCard(card.replace_files(host), entries)


def point_at_hub(card: ModelDeploymentCard) -> ModelDeploymentCard:
    """``card`` with its typed files at ``hf://<source_path>/<name>`` where they are local paths.

    A custom chat template is not in the hub's repository and stays a path, as do extra files.
    """
    custom = {file for file, is_custom in card.iter_metadata_files() if is_custom}
    typed = {*card.iter_typed_files()} - custom
    for file in custom:
        if file.path is not None:
            logger.info(
                "the custom chat template stays a path; have it at the same place on all hosts",
                extra=facts(model=card.display_name, path=file.path),
            )

    def move(file: CheckedFile) -> CheckedFile:
        name = file.basename()
        if file not in typed or file.path is None or name is None:
            return file
        return file.with_url(f"hf://{card.source_path}/{quote(name)}")

    return card.replace_files(move)
