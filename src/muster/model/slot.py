"""A typed place in a card for one file of the model, and what kind of file stands in it."""

from __future__ import annotations

import enum

import msgspec

from muster.model.checked_file import CHECKED_FILE, CheckedFile
from muster.model.strictjson.compound import Field, Record, Tagged
from muster.model.strictjson.node import Json, Node
from muster.model.strictjson.shape import BOOL, Shape

__all__ = [
    "CHAT_TEMPLATE",
    "GEN_CONFIG",
    "MODEL_INFO",
    "PROMPT_FORMATTER",
    "TOKENIZER",
    "Slot",
    "SlotKind",
]


class SlotKind(enum.StrEnum):
    """What a slot's file is; the key it is written under."""

    HF_CONFIG_JSON = "hf_config_json"
    HF_TOKENIZER_JSON = "hf_tokenizer_json"
    TIK_TOKEN_MODEL = "tik_token_model"  # noqa: S105 - a file format
    HF_TOKENIZER_CONFIG_JSON = "hf_tokenizer_config_json"
    HF_CHAT_TEMPLATE = "hf_chat_template"
    HF_CHAT_TEMPLATE_JSON = "hf_chat_template_json"
    HF_GENERATION_CONFIG_JSON = "hf_generation_config_json"


class Slot(msgspec.Struct, frozen=True):
    """A file and its kind. ``is_custom`` is for chat templates: not the model's own, but given."""

    kind: SlotKind
    file: CheckedFile
    is_custom: bool = False


class _PlainSlot:
    """A slot written as its file."""

    def __init__(self, kind: SlotKind) -> None:
        self._kind = kind

    def read(self, node: Node, at: str) -> Slot:
        return Slot(self._kind, CHECKED_FILE.read(node, at))

    def write(self, value: Slot) -> Json:
        return CHECKED_FILE.write(value.file)


def _template(kind: SlotKind) -> Shape[Slot]:
    """A slot written with its ``is_custom``."""

    def make(*, is_custom: bool, file: CheckedFile) -> Slot:
        return Slot(kind, file, is_custom)

    return Record("struct variant", make, Field("is_custom", BOOL), Field("file", CHECKED_FILE))


_TEMPLATES: dict[str, Shape[Slot]] = {
    "hf_chat_template": _template(SlotKind.HF_CHAT_TEMPLATE),
    "hf_chat_template_jinja": _template(SlotKind.HF_CHAT_TEMPLATE),  # another name, only read
    "hf_chat_template_json": _template(SlotKind.HF_CHAT_TEMPLATE_JSON),
}


def _slot(*kinds: SlotKind, others: dict[str, Shape[Slot]] | None = None) -> Tagged[Slot]:
    shapes = {kind.value: _PlainSlot(kind) for kind in kinds}
    return Tagged({**shapes, **(others or {})}, lambda slot: slot.kind.value)


MODEL_INFO = _slot(SlotKind.HF_CONFIG_JSON)
TOKENIZER = _slot(SlotKind.HF_TOKENIZER_JSON, SlotKind.TIK_TOKEN_MODEL)
PROMPT_FORMATTER = _slot(SlotKind.HF_TOKENIZER_CONFIG_JSON, others=_TEMPLATES)
CHAT_TEMPLATE = PROMPT_FORMATTER
GEN_CONFIG = _slot(SlotKind.HF_GENERATION_CONFIG_JSON)
