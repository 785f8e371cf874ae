"""What a pack says of itself: its first member, ``muster-pack.json``.

::

    {"format": "muster-pack", "version": 1,
     "model": "<name>",
     "identity": "blake3:<hex>",
     "files": [{"role", "name", "digest", "size_bytes"}, ...],
     "left_out": [{"name", "reason"}, ...],
     "card": {...}}

``files`` are in the card's order, typed slots first; the card names each as ``files/<name>``, which
is its member's name too. A file in two slots is listed twice and packed once. ``identity`` is that
of ``muster.model.identity``. The second member, ``muster-pack.b3sum``, holds the digests of the
manifest and of all files in the form ``b3sum --check`` reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from muster.content.name import check_file_name
from muster.digest import Digest
from muster.errors import CardError, ContentError
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.identity import FileRole, IdentityFile, compute_identity

__all__ = [
    "CHECKSUMS_NAME",
    "FOLDER",
    "MANIFEST_NAME",
    "MAX_MANIFEST_BYTES",
    "LeftBehind",
    "PackManifest",
    "PackedFile",
    "roles_of",
]

MANIFEST_NAME: Final = "muster-pack.json"
CHECKSUMS_NAME: Final = "muster-pack.b3sum"
FOLDER: Final = "files/"
MAX_MANIFEST_BYTES: Final = 16 << 20
"""A manifest is held in memory; 256 files take some 100 kB."""

T = TypeVar("T")

_FORMAT = "muster-pack"
_VERSION = 1


class PackedFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the model in the role it has. ``name`` is its real name."""

    role: FileRole
    name: str
    digest: Digest
    size_bytes: int


class LeftBehind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A directory entry that is not in the pack, and why not, in words."""

    name: str
    reason: str


class _WireFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    role: FileRole
    name: str
    digest: str
    size_bytes: int


class _WireHead(msgspec.Struct, frozen=True, kw_only=True):
    format: str
    version: int


class _WireManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    version: int
    model: str
    identity: str
    files: tuple[_WireFile, ...]
    left_out: tuple[LeftBehind, ...]
    card: msgspec.Raw


class PackManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a pack. ``card`` has every file at ``files/<name>``; ``files`` is in its order."""

    card: ModelDeploymentCard
    files: tuple[PackedFile, ...]
    left_out: tuple[LeftBehind, ...] = ()

    @classmethod
    def of_card(
        cls, card: ModelDeploymentCard, left_out: tuple[LeftBehind, ...] = ()
    ) -> PackManifest:
        """The manifest for a card whose files are paths of known size.

        Raises:
            CardError: Two different files have one name.
            ContentError: A file has no safe name.
        """
        files = tuple(
            PackedFile(role=role, name=_name(file), digest=file.checksum, size_bytes=file.size or 0)
            for role, file in roles_of(card)
        )
        _unique(files)
        placed = card.replace_files(lambda file: file.with_path(FOLDER + _name(file)))
        return cls(card=placed, files=files, left_out=left_out)

    @classmethod
    def from_bytes(cls, data: bytes) -> PackManifest:
        """Read a manifest.

        Raises:
            ContentError: It is none, is of a later version, or contradicts itself.
        """
        head = _decode(data, _WireHead)
        if head.format != _FORMAT:
            raise ContentError(f"{MANIFEST_NAME} is of the format {head.format!r}, not {_FORMAT!r}")
        if head.version != _VERSION:
            raise ContentError(
                f"the pack is of version {head.version}; this Muster reads version {_VERSION}",
                hint="read it with the version of Muster that wrote it, or a later one",
            )
        wire = _decode(data, _WireManifest)
        try:
            card = ModelDeploymentCard.from_json_str(bytes(wire.card))
            files = tuple(
                PackedFile(
                    role=each.role,
                    name=check_file_name(each.name),
                    digest=Digest.parse(each.digest),
                    size_bytes=each.size_bytes,
                )
                for each in wire.files
            )
            found = cls.of_card(card, wire.left_out)
        except CardError as error:
            raise ContentError(f"{MANIFEST_NAME}: {error.message}") from error
        if found.files != files or found.card.to_json_str() != card.to_json_str():
            raise ContentError(f"{MANIFEST_NAME}: its list of files is not that of its card")
        for told, is_so, what in (
            (wire.model, card.display_name, "model"),
            (wire.identity, str(found.identity), "identity"),
        ):
            if told != is_so:
                raise ContentError(f"{MANIFEST_NAME}: its {what} is {is_so!r}, not {told!r}")
        return found

    def to_bytes(self) -> bytes:
        """The manifest as JSON, indented; the same value gives the same bytes."""
        wire = _WireManifest(
            format=_FORMAT,
            version=_VERSION,
            model=self.model,
            identity=str(self.identity),
            files=tuple(
                _WireFile(
                    role=each.role,
                    name=each.name,
                    digest=str(each.digest),
                    size_bytes=each.size_bytes,
                )
                for each in self.files
            ),
            left_out=self.left_out,
            card=msgspec.Raw(self.card.to_json_str().encode()),
        )
        return msgspec.json.format(msgspec.json.encode(wire), indent=2) + b"\n"

    @property
    def model(self) -> str:
        """The model's name."""
        return self.card.display_name

    @property
    def identity(self) -> Digest:
        """The identity of the files."""
        return compute_identity(
            IdentityFile(each.role, each.name, each.digest) for each in self.files
        )

    def members(self) -> tuple[PackedFile, ...]:
        """The files by name, each once: the order in which they are packed."""
        by_name = {each.name: each for each in reversed(self.files)}
        return tuple(by_name[name] for name in sorted(by_name))

    def checksums(self, written: bytes) -> bytes:
        """The second member's content: a line for the manifest as ``written``, one for each file."""
        lines = [_checksum_line(Digest.of(written), MANIFEST_NAME)]
        lines += [_checksum_line(each.digest, FOLDER + each.name) for each in self.members()]
        return "".join(lines).encode()


def roles_of(card: ModelDeploymentCard) -> Iterable[tuple[FileRole, CheckedFile]]:
    """Every file of a card with its role, typed slots first, in the card's order."""
    for role, slot in (
        (FileRole.MODEL_INFO, card.model_info),
        (FileRole.TOKENIZER, card.tokenizer),
        (FileRole.PROMPT_FORMATTER, card.prompt_formatter),
        (FileRole.CHAT_TEMPLATE, card.chat_template_file),
        (FileRole.GEN_CONFIG, card.gen_config),
    ):
        if slot is not None:
            yield role, slot.file
    for file in card.extra_files:
        yield FileRole.EXTRA, file


def _name(file: CheckedFile) -> str:
    return check_file_name((file.basename() or "") if file.path is not None else "")


def _unique(files: Iterable[PackedFile]) -> None:
    seen: dict[str, PackedFile] = {}
    for each in files:
        first = seen.setdefault(each.name, each)
        if (first.digest, first.size_bytes) != (each.digest, each.size_bytes):
            raise CardError(
                f"two files are called {each.name!r}: {first.role.value} and {each.role.value}",
                hint="rename one of them, for example the custom chat template",
            )


def _checksum_line(digest: Digest, name: str) -> str:
    """As ``b3sum`` writes it: a name with a backslash or line break is escaped, and marked so."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "\\" if escaped != name else ""
    return f"{mark}{digest.hex}  {escaped}\n"


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ContentError(f"{MANIFEST_NAME} cannot be read: {error}") from error
