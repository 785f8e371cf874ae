"""Who can be asked for a file, and in which order: a decision over cards, settings and scores.

First every live replica whose card has the file's digest, then whatever these replicas serve by
digest, then this host's own directories, then a hub. What may not be asked is listed with the reason.
"""

from __future__ import annotations

import random
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from muster.digest import Digest
from muster.errors import ContentError, SourceError
from muster.model.checked_file import CheckedFile
from muster.model.extension import CardExtension
from muster.model.fetch.place import (
    HttpKind,
    HttpPlace,
    HubCachePlace,
    LocalPlace,
    Place,
    file_name,
    redact,
)
from muster.model.fetch.replica import Replica

__all__ = [
    "Candidate",
    "Candidates",
    "Offer",
    "Surroundings",
    "find_candidates",
    "in_order",
    "offers_of",
]

_TIERS = ("replica", "blobs", "path", "model_path", "hub_cache", "hub")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One place that may have the file, not yet checked for trust.

    Attributes:
        place: Where.
        tier: Position in the order of kinds; lower is better.
        host: The host of the instance that published the card, if known.
        healthy: Whether that instance has answered lately.
        trusted: The place is our own setting's, not a card's word.
    """

    place: Place
    tier: int
    host: str | None = None
    healthy: bool = True
    trusted: bool = False


class Candidates(msgspec.Struct, frozen=True):
    """The places for a file, and why others that the cards name cannot be used."""

    places: tuple[Candidate, ...]
    refused: tuple[ContentError, ...]


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica's card says of files, by their digests: read once for all files of a card.

    Attributes:
        replica: Whose.
        copies: The card's files with each digest, in the card's order.
        blobs: Where it serves files by digest: a URL that a digest's hexadecimal digits complete.
    """

    replica: Replica
    copies: Mapping[Digest, Sequence[CheckedFile]]
    blobs: str | None


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What this process has besides the cards.

    Attributes:
        model_path: Directory to take a file from by name.
        hub_roots: Caches of a model hub on this host.
        hub_url: The hub itself; ``None`` unless somebody opted in.
    """

    model_path: Path | None = None
    hub_roots: tuple[Path, ...] = ()
    hub_url: str | None = None


def offers_of(replicas: Sequence[Replica]) -> list[Offer]:
    """What the replicas offer, in their order."""
    offers = []
    for replica in replicas:
        copies: dict[Digest, list[CheckedFile]] = {}
        for file, _ in replica.card.iter_metadata_files():
            copies.setdefault(file.checksum, []).append(file)
        blobs = CardExtension.read(replica.card.muster).blobs
        offers.append(Offer(replica=replica, copies=copies, blobs=blobs))
    return offers


def find_candidates(file: CheckedFile, offers: Sequence[Offer], around: Surroundings) -> Candidates:
    """All places for ``file``, each once, best kind first.

    Args:
        file: The file, as the card to be resolved has it.
        offers: Of live replicas; any file of theirs with the same digest counts.
        around: This process's own directories and hub.
    """
    found: dict[Place, Candidate] = {}
    refused: dict[str, ContentError] = {}
    for offer in offers:
        replica = offer.replica
        for copy in offer.copies.get(file.checksum, ()):
            try:
                for candidate in _named_by(copy, replica, around):
                    found.setdefault(candidate.place, candidate)
            except ContentError as error:
                refused.setdefault(error.message, error)
        if offer.blobs is not None:
            place = HttpPlace(offer.blobs + file.checksum.hex)
            found.setdefault(
                place, _candidate(place, "blobs", host=replica.host, healthy=replica.healthy)
            )
    if around.model_path is not None:
        overlay = LocalPlace(around.model_path / file_name(file))
        found.setdefault(overlay, _candidate(overlay, "model_path", trusted=True))
    return Candidates(
        tuple(sorted(found.values(), key=lambda each: each.tier)), tuple(refused.values())
    )


def in_order(
    candidates: Sequence[Candidate],
    *,
    is_resting: Callable[[str], bool],
    is_near: Callable[[Candidate], bool],
    chance: random.Random,
) -> list[Candidate]:
    """``candidates`` in the order to ask them: kind first, then who is not resting, healthy and near.

    What is equal in all this is shuffled, so that many frontends do not all ask the same replica.
    A resting source comes after all that are not, whatever its kind.
    """
    shuffled = list(candidates)
    chance.shuffle(shuffled)
    return sorted(
        shuffled,
        key=lambda each: (
            is_resting(each.place.source),
            each.tier,
            not each.healthy,
            not is_near(each),
        ),
    )


def _named_by(file: CheckedFile, replica: Replica, around: Surroundings) -> Iterator[Candidate]:
    """The places that a card's own words for a file lead to."""
    if file.url is None:
        yield _candidate(LocalPlace(_absolute(file.path or "")), "path", host=replica.host)
        return
    scheme = file.url.partition(":")[0].lower()
    if scheme in ("http", "https"):
        yield _candidate(HttpPlace(file.url), "replica", host=replica.host, healthy=replica.healthy)
    elif scheme == "file":
        yield _candidate(LocalPlace(_path_of(file.url)), "path", host=replica.host)
    elif scheme == "hf":
        yield from _on_hub(file, around)
    else:
        raise SourceError(
            f"unsupported scheme {scheme!r}: {redact(file.url)}",
            hint="files are fetched from http, https and file; or give their directory with "
            "--model-path",
        )


def _on_hub(file: CheckedFile, around: Surroundings) -> Iterator[Candidate]:
    """A hub's file: in its cache on this host, or there."""
    url = redact(file.url or "")
    repository, _, _ = url.removeprefix("hf://").rpartition("/")
    name = file_name(file)
    parts = repository.split("/")
    if len(parts) > 2 or {*parts} & {"", ".", ".."}:
        raise SourceError(f"{url} names no file of a hub's repository: hf://OWNER/MODEL/FILE")
    for root in around.hub_roots:
        yield _candidate(HubCachePlace(root, repository, name), "hub_cache", trusted=True)
    if around.hub_url is not None:
        path = (*parts, "resolve", "main", name)
        quoted = "/".join(urllib.parse.quote(part, safe="") for part in path)
        place = HttpPlace(f"{around.hub_url.rstrip('/')}/{quoted}", HttpKind.HUB)
        yield _candidate(place, "hub", trusted=True)
    elif not around.hub_roots and around.model_path is None:
        raise SourceError(f"{url} is on a hub, and none is asked", hint=_HUB_HINT)


_HUB_HINT = (
    "let the worker serve its files (DYN_SELF_HOST_METADATA=1, DYN_SYSTEM_PORT set), give this "
    "process the model's directory with --model-path, or allow a hub with MUSTER_FETCH_HUB"
)


def _candidate(
    place: Place,
    tier: str,
    *,
    host: str | None = None,
    healthy: bool = True,
    trusted: bool = False,
) -> Candidate:
    return Candidate(
        place=place, tier=_TIERS.index(tier), host=host, healthy=healthy, trusted=trusted
    )


def _path_of(url: str) -> Path:
    parts = urllib.parse.urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise SourceError(
            f"{redact(url)} is on host {parts.netloc!r}",
            hint="a file URL names a file on this host: file:///path",
        )
    return _absolute(urllib.parse.unquote(parts.path, errors="surrogateescape"))


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise SourceError(
            f"the card's path {text!r} is not an absolute path",
            hint="register the model from an absolute path, or let the worker serve its files",
        )
    return path
