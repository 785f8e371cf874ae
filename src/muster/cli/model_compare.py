"""What differs between the replicas of a model, with the differing files fetched and looked into.

Reading files is at the top; what follows from their bytes is decided below by pure functions.
"""

from __future__ import annotations

import difflib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from muster.config.settings import FetchSettings
from muster.content.store import BlobStore
from muster.digest import Digest
from muster.errors import ContentError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.diff import FileDiff, ValueDiff, diff_cards, diff_json
from muster.model.fetch.card_fetcher import CardFetcher
from muster.model.fetch.replica import Replica

__all__ = ["Comparison", "FileComparison", "compare", "compare_bytes", "describe"]

_TEXT_BYTES = 1 << 20
"""Larger files are not compared line by line."""


class FileComparison(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One file that differs.

    Attributes:
        role: Its slot, or ``extra``.
        name: Its name.
        left: Digest of the one side's; empty if it has none.
        right: Digest of the other's.
        kind: ``added``, ``removed``, ``json``, ``layout`` (the same JSON, written otherwise),
            ``text``, ``binary``, or ``unknown`` if it could not be fetched.
        values: JSON: every place where they differ.
        lines: Text: the differing lines, as ``diff -u`` writes them.
        left_bytes: Size on one side.
        right_bytes: Size on the other.
        error: Why it could not be fetched.
    """

    role: str
    name: str
    left: str = ""
    right: str = ""
    kind: str = "unknown"
    values: tuple[ValueDiff, ...] = ()
    lines: tuple[str, ...] = ()
    left_bytes: int | None = None
    right_bytes: int | None = None
    error: str = ""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One card against the card of reference.

    Attributes:
        mdcsum: The card that is compared.
        keys: Who has it.
        same_identity: Whether both cards say the same identity: then only terms or places differ.
        files: Files that differ.
        fields: The card's own fields that differ.
        cosmetic: Whether frontends of ours serve both together in spite of it.
    """

    mdcsum: str
    keys: tuple[str, ...]
    same_identity: bool
    files: tuple[FileComparison, ...]
    fields: tuple[ValueDiff, ...]
    cosmetic: bool


async def compare(
    reference: Replica,
    other: Replica,
    keys: Sequence[str],
    settings: FetchSettings,
    token: str | None,
) -> Comparison:
    """Compare two replicas' cards, and fetch the files in which they differ.

    A file that cannot be fetched is said to be ``unknown``, with the reason.
    """
    from muster.model.extension import CardExtension

    diff = diff_cards(reference.card, other.card)
    identities = [
        CardExtension.read(replica.card.muster).identity for replica in (reference, other)
    ]
    same = None not in identities and identities[0] == identities[1]
    files: list[FileComparison] = []
    with tempfile.TemporaryDirectory(prefix="muster-diff-") as scratch:
        async with CardFetcher(BlobStore(Path(scratch)), settings, token=token) as fetcher:
            for each in diff.files:
                left = await _read(fetcher, reference, each.left)
                right = await _read(fetcher, other, each.right)
                files.append(_compare_file(each, left, right))
    return Comparison(
        mdcsum=other.card.mdcsum(),
        keys=tuple(keys),
        same_identity=same,
        files=tuple(files),
        fields=diff.fields,
        cosmetic=diff.is_cosmetic and same,
    )


async def _read(fetcher: CardFetcher, replica: Replica, digest: str) -> bytes | str | None:
    """A file's bytes, why they cannot be had, or ``None`` if the replica has no such file."""
    if not digest:
        return None
    wanted = Digest.parse(digest)
    try:
        resolved = await fetcher.resolve([_only(replica, wanted)])
        (file,) = resolved.files
        return file.path.read_bytes()
    except ContentError as error:
        return error.message
    except (OSError, ValueError):
        left = "; ".join(each.message for each in resolved.left_out)
        return left or "it could not be read"


def _only(replica: Replica, digest: Digest) -> Replica:
    """The replica with a card of that file alone, as an extra file: it may fail on its own."""
    files = {file.checksum: file for file, _ in replica.card.iter_metadata_files()}
    found: CheckedFile = files[digest]
    card = ModelDeploymentCard(
        display_name=replica.card.display_name,
        slug="diff",
        extra_files=(found,),
        muster=replica.card.muster,
    )
    return msgspec.structs.replace(replica, card=card)


def _compare_file(
    diff: FileDiff, left: bytes | str | None, right: bytes | str | None
) -> FileComparison:
    base = FileComparison(role=diff.role, name=diff.name, left=diff.left, right=diff.right)
    for content in (left, right):
        if isinstance(content, str):
            return msgspec.structs.replace(base, error=content)
    if not isinstance(left, bytes):
        size = len(right) if isinstance(right, bytes) else None
        return msgspec.structs.replace(base, kind="added", right_bytes=size)
    if not isinstance(right, bytes):
        return msgspec.structs.replace(base, kind="removed", left_bytes=len(left))
    return compare_bytes(base, left, right)


def compare_bytes(base: FileComparison, left: bytes, right: bytes) -> FileComparison:
    """``base`` with what differs between two contents of a file."""
    sized = msgspec.structs.replace(base, left_bytes=len(left), right_bytes=len(right))
    documents = _json(left), _json(right)
    if documents[0] is not None and documents[1] is not None:
        values = tuple(diff_json(documents[0]["root"], documents[1]["root"]))
        return msgspec.structs.replace(sized, kind="json" if values else "layout", values=values)
    texts = _text(left), _text(right)
    if texts[0] is None or texts[1] is None:
        return msgspec.structs.replace(sized, kind="binary")
    lines = difflib.unified_diff(
        texts[0].splitlines(), texts[1].splitlines(), "reference", "this", lineterm="", n=1
    )
    return msgspec.structs.replace(sized, kind="text", lines=tuple(lines))


def _json(content: bytes) -> Mapping[str, object] | None:
    """The document, wrapped, because it may be ``null``; ``None`` if it is no JSON."""
    try:
        return {"root": json.loads(content)}
    except (ValueError, RecursionError):
        return None


def _text(content: bytes) -> str | None:
    if len(content) > _TEXT_BYTES or b"\0" in content:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def describe(comparison: Comparison) -> Iterator[str]:
    """What differs, in lines for people; long values and texts are cut."""
    for each in comparison.fields:
        yield f"card {each.pointer}: {_value(each, left=True)} -> {_value(each, left=False)}"
    for file in comparison.files:
        what = f"{file.role} {file.name}"
        match file.kind:
            case "added":
                yield f"{what}: only here ({file.right_bytes} bytes)"
            case "removed":
                yield f"{what}: missing here ({file.left_bytes} bytes)"
            case "layout":
                yield f"{what}: the same content, written differently"
            case "json":
                for value in file.values[:_MOST_LINES]:
                    yield (
                        f"{what} {value.pointer or '/'}: {_value(value, left=True)} -> "
                        f"{_value(value, left=False)}"
                    )
                yield from _more(len(file.values), "places")
            case "text":
                yield f"{what}:"
                yield from (f"  {line}" for line in file.lines[2 : _MOST_LINES + 2])
                yield from _more(len(file.lines) - 2, "lines")
            case "binary":
                yield f"{what}: {file.left_bytes} bytes -> {file.right_bytes} bytes"
            case _:
                yield f"{what}: could not be compared: {file.error}"


_MOST_LINES = 20
_MOST_CHARACTERS = 60


def _more(count: int, what: str) -> Iterator[str]:
    if count > _MOST_LINES:
        yield f"  ... and {count - _MOST_LINES} more {what}; see --json"


def _value(diff: ValueDiff, *, left: bool) -> str:
    if not (diff.in_left if left else diff.in_right):
        return "(missing)"
    text = json.dumps(diff.left if left else diff.right, ensure_ascii=False)
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "..."
