"""What a registration will say and serve, worked out before anything is done about it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from muster.digest import Digest
from muster.log import facts
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.extension import CardExtension
from muster.model.publish.harvest import LeftOutFile
from muster.model.publish.inventory import check_links, take_inventory
from muster.model.publish.self_host import HostedCard, point_at_hub, self_hosted
from muster.names import EndpointId
from muster.runtime.metadata.registry import MetadataKey

__all__ = ["Prepared", "prepare"]

logger = logging.getLogger(__name__)

_DYNAMO_NAME_BYTES = 208
"""Longest name in a URL, percent-encoded, that 1.6.1 can link on a file system with NAME_MAX 255."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A card as it goes out, and what belongs to it.

    Attributes:
        card: The card.
        files: The files to serve for it, at absolute local paths; none without self-hosting.
        left_out: Entries of the model's directory that do not travel.
        identity: The model's identity; ``None`` for a model without files.
    """

    card: ModelDeploymentCard
    files: dict[MetadataKey, CheckedFile]
    left_out: tuple[LeftOutFile, ...] = ()
    identity: Digest | None = None


def prepare(
    card: ModelDeploymentCard,
    *,
    endpoint: EndpointId,
    lora_slug: str | None,
    directory: Path | None,
    base_url: str | None,
    max_extra_bytes: int,
) -> Prepared:
    """Work out the card that is published for ``card``. Blocks: it hashes files.

    Args:
        card: With local paths.
        endpoint: Where the model is served.
        lora_slug: For a LoRA's card.
        directory: The model's directory; ``None`` for a model without files.
        base_url: Where this worker serves files; ``None`` if it does not.
        max_extra_bytes: Size of the largest file that travels without a slot.

    Raises:
        CardError: The directory cannot be listed, or the files cannot be served: two have one name,
            one is a link to somewhere else, or a name is not UTF-8.
        ContentError: A file cannot be read.
    """
    if directory is None:
        return Prepared(card=_reachable(card), files={})
    inventory = take_inventory(card, directory, max_extra_bytes=max_extra_bytes)
    extension = CardExtension(identity=inventory.identity).to_json()
    hosted = HostedCard(msgspec.structs.replace(card, muster=extension), {})
    if base_url is not None:
        whole = msgspec.structs.replace(inventory.card, muster=extension)
        check_links(whole, directory)
        hosted = self_hosted(whole, base_url=base_url, endpoint=endpoint, lora_slug=lora_slug)
        _say(inventory.left_out, card.display_name)
        _warn_of_long_names(hosted.card)
    return Prepared(
        card=_reachable(hosted.card),
        files=hosted.entries,
        left_out=inventory.left_out,
        identity=inventory.identity,
    )


def _reachable(card: ModelDeploymentCard) -> ModelDeploymentCard:
    """``card``, pointing at the hub for what is still local if the model came by its hub name."""
    source = card.source_path
    return card if source is None or os.path.exists(source) else point_at_hub(card)  # noqa: PTH110 - any text


def _warn_of_long_names(card: ModelDeploymentCard) -> None:
    """Dynamo's frontends name a link by the URL's segment, with 45 bytes more while they make it."""
    for file, _ in card.iter_metadata_files():
        name = file.basename() or ""
        if file.url is not None and len(name) > _DYNAMO_NAME_BYTES:
            logger.warning(
                "a file's name is too long for Dynamo's frontends, which will not serve the model",
                extra=facts(
                    model=card.display_name, file_name=name, limit_bytes=_DYNAMO_NAME_BYTES
                ),
            )


def _say(left_out: tuple[LeftOutFile, ...], model: str) -> None:
    for left in left_out:
        logger.log(
            logging.WARNING if left.reason.is_surprise else logging.DEBUG,
            "a file stays out of the card: %s",
            left.reason.value,
            extra=facts(
                model=model, file_name=os.fsencode(left.name).decode("utf-8", "backslashreplace")
            ),
        )
