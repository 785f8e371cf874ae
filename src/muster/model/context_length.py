"""How many tokens a model takes, by the configuration files in its directory."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from muster.errors import CardError
from muster.model.strictjson.compound import Field, Maybe, Record
from muster.model.strictjson.json5 import read_json5
from muster.model.strictjson.node import Json, Node, to_json
from muster.model.strictjson.reader import read

__all__ = ["find_context_length"]

_U32_MAX = 2**32 - 1
_KEY = "max_position_embeddings"


class _Absent:
    pass


_ABSENT = _Absent()


class _AsWritten:
    """A value that is only looked at if it is there."""

    def read(self, node: Node, at: str) -> Node:
        _ = at
        return node

    def write(self, value: Node) -> Json:
        return to_json(value, "")


class _TextConfig(msgspec.Struct, frozen=True):
    max_position_embeddings: object = _ABSENT


class _Config(msgspec.Struct, frozen=True):
    max_position_embeddings: object = _ABSENT
    text_config: _TextConfig | None = None


_TEXT_CONFIG = Record(
    "struct TextConfig", _TextConfig, Field(_KEY, _AsWritten(), _ABSENT), exact=False
)
_CONFIG = Record(
    "struct ArchMaxContextConfig",
    _Config,
    Field(_KEY, _AsWritten(), _ABSENT),
    Field("text_config", Maybe(_TEXT_CONFIG), None, in_array=False),
    exact=False,
)


def find_context_length(directory: str | os.PathLike[str], *, has_config: bool) -> int | None:
    """The model's longest context, or ``None`` if its files do not say.

    ``config.json``'s ``max_position_embeddings``, else that in its ``text_config``, else
    ``tokenizer_config.json``'s ``model_max_length``. The first that is there counts, and 0 means
    unknown. ``config.json`` is read as JSON5; a ``tokenizer_config.json`` that says nothing usable
    is passed over.

    Args:
        directory: The model's.
        has_config: Whether there is a ``config.json`` to ask.

    Raises:
        CardError: If ``config.json`` cannot be read or parsed, or its value is no u32.
    """
    length = _from_config(Path(directory) / "config.json") if has_config else None
    if length is None:
        length = _from_tokenizer_config(Path(directory) / "tokenizer_config.json")
    return length or None


def _from_config(path: Path) -> int | None:
    try:
        data = path.read_bytes()
        data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"Failed to read {path}: {error}") from error
    try:
        config = _CONFIG.read(read_json5(data), "")
    except CardError as error:
        raise CardError(f"Failed to parse JSON from file: {path}: {error.message}") from error
    if config.max_position_embeddings is not _ABSENT:
        return _length(config.max_position_embeddings, _KEY, path)
    nested = config.text_config
    if nested is not None and nested.max_position_embeddings is not _ABSENT:
        return _length(nested.max_position_embeddings, f"text_config.{_KEY}", path)
    return None


def _length(value: object, key: str, path: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _U32_MAX:
        raise CardError(
            f"Failed to deserialize {key}", hint=f"in {path}, make it a whole number, or remove it"
        )
    return value


def _from_tokenizer_config(path: Path) -> int | None:
    try:
        config = to_json(read(path.read_bytes()), "")
    except (OSError, CardError):
        return None
    value = config.get("model_max_length") if isinstance(config, dict) else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _U32_MAX else None
