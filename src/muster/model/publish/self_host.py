"""Rewrite a card so that its files are fetched from this worker, or from a hub; no I/O but hashing.

What is served is decided here and done by the caller: a ``HostedCard`` lists the entries for the
metadata registry beside the card that names their URLs.
"""

from __future__ import annotations

import logging
import os
from urllib.parse import quote

import msgspec

from muster.errors import CardError
from muster.log import facts
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.extension import CardExtension
from muster.names import EndpointId
from muster.runtime.metadata.registry import BASE_SUFFIX, MetadataKey
from muster.runtime.metadata.route import format_path

__all__ = ["HostedCard", "point_at_hub", "self_hosted"]

logger = logging.getLogger(__name__)

_BLOBS_PATH = "/v1/blobs/"


class HostedCard(msgspec.Struct, frozen=True):
    """A card whose files are at this worker, and the files to serve for it, at absolute paths."""

    card: ModelDeploymentCard
    entries: dict[MetadataKey, CheckedFile]


def self_hosted(
    card: ModelDeploymentCard, *, base_url: str, endpoint: EndpointId, lora_slug: str | None = None
) -> HostedCard:
    """``card`` with every local file at this worker's metadata route, and saying where blobs are.

    A file keeps the name it has where the card says it is, also when that is a link into a hub's
    cache; its bytes come from the link's target. Files that are URLs already stay as they are.

    Args:
        card: A card with local paths.
        base_url: ``http://host:port`` of the status server.
        endpoint: The endpoint that serves the model.
        lora_slug: For a LoRA's card.

    Raises:
        CardError: If two files have one name: they could not be told apart at the other end; or
            a file's name is not UTF-8, so that no card can hold it.
    """
    suffix = BASE_SUFFIX if lora_slug is None else lora_slug
    entries: dict[MetadataKey, CheckedFile] = {}

    def host(file: CheckedFile) -> CheckedFile:
        if file.path is None:
            return file
        name = file.basename()
        if name is None:
            raise CardError(
                f"{os.fsencode(file.path)!r} has no name that a card can hold",
                hint="rename it: a name must be UTF-8",
            )
        key = MetadataKey(
            endpoint.namespace, endpoint.component, endpoint.name, card.slug, suffix, name
        )
        local = file.with_path(os.path.abspath(file.path))  # noqa: PTH100 - must not follow links
        other = entries.setdefault(key, local)
        if other.path != local.path:
            raise CardError(
                f"two files of {card.display_name!r} are called {name!r}: "
                f"{other.path} and {local.path}",
                hint="rename one of them, for example the custom chat template",
            )
        return file.with_url(base_url + format_path(key))

    places = CardExtension(blobs=base_url + _BLOBS_PATH, status=base_url).to_json()
    moved = card.replace_files(host)
    return HostedCard(msgspec.structs.replace(moved, muster=card.muster | places), entries)


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
