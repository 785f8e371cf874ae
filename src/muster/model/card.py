"""The model deployment card: everything a frontend must know to serve a worker's model.

Read, written and hashed as Dynamo 1.6.1 does: the same cards are accepted, the same text is written
back (unknown keys are dropped), the same digest comes out. One key more is ours: ``muster``, an
object that 1.6.1 ignores; it is kept through reading and writing and is no part of the digest.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from muster.errors import CardError
from muster.model.checked_file import CHECKED_FILE, CheckedFile
from muster.model.indexer_identity import INDEXER_IDENTITY, IndexerIdentity
from muster.model.lora import LORA_INFO, LoraInfo
from muster.model.mdcsum import compute_mdcsum
from muster.model.media import MEDIA_DECODER, MEDIA_FETCHER, MediaDecoder, MediaFetcher
from muster.model.model_type import MODEL_TYPE, ModelInput, ModelType, WorkerType
from muster.model.prompt_context import PromptContext
from muster.model.router_config import ROUTER_CONFIG, RouterConfig
from muster.model.runtime_config import RUNTIME_CONFIG, ModelRuntimeConfig
from muster.model.slot import (
    CHAT_TEMPLATE,
    GEN_CONFIG,
    MODEL_INFO,
    PROMPT_FORMATTER,
    TOKENIZER,
    Slot,
)
from muster.model.strictjson.compound import Field, ListOf, Maybe, Record, if_empty, if_none
from muster.model.strictjson.node import Json, Members, Node, to_json
from muster.model.strictjson.reader import read
from muster.model.strictjson.shape import ANY, TEXT, U32, Choice, TextAs
from muster.model.strictjson.writer import dump
from muster.model.tensor_config import TENSOR_MODEL_CONFIG, TensorModelConfig
from muster.names import slugify

__all__ = ["ModelDeploymentCard"]

_EXTENSION = "muster"
_NOT_SLUG = re.compile(r"[^a-z0-9_-]")


class ModelDeploymentCard(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A card. Values are frozen: what changes one gives another.

    ``slug`` is the card's own word and need not be made of the name. ``legacy_context_length`` is
    what the wire's ``context_length`` said; what is written there is ``context_length``.
    """

    display_name: str
    slug: str
    source_path: str | None = None
    model_info: Slot | None = None
    tokenizer: Slot | None = None
    prompt_formatter: Slot | None = None
    chat_template_file: Slot | None = None
    gen_config: Slot | None = None
    prompt_context: tuple[PromptContext, ...] | None = None
    architectural_max_context_length: int | None = None
    legacy_context_length: int | None = None
    kv_cache_block_size: int = 0
    migration_limit: int = 0
    model_type: ModelType = ModelType(0)
    model_input: ModelInput = ModelInput.Text
    worker_type: WorkerType | None = None
    needs: tuple[tuple[WorkerType, ...], ...] = ()
    lora: LoraInfo | None = None
    aliases: tuple[str, ...] = ()
    user_data: Json = None
    runtime_config: ModelRuntimeConfig = ModelRuntimeConfig()
    tensor_model_config: TensorModelConfig | None = None
    media_decoder: MediaDecoder | None = None
    media_fetcher: MediaFetcher | None = None
    router_config: RouterConfig | None = None
    indexer_identity: IndexerIdentity | None = None
    extra_files: tuple[CheckedFile, ...] = ()
    muster: dict[str, Json] = {}

    @classmethod
    def from_json_str(cls, text: str | bytes) -> ModelDeploymentCard:
        """Read a card.

        Raises:
            CardError: If it is not JSON, or not a card Dynamo 1.6.1 would accept; the message says
                which field is wrong.
        """
        root = read(text)
        card = _CARD.read(root, "")
        extension = _extension(root)
        return msgspec.structs.replace(card, muster=extension) if extension else card

    @classmethod
    def load(
        cls,
        directory: str | os.PathLike[str],
        name: str,
        *,
        custom_template_path: str | os.PathLike[str] | None = None,
    ) -> ModelDeploymentCard:
        """Make the card of the model in ``directory``; see ``card_load.load_card``."""
        from muster.model.card_load import load_card

        return load_card(directory, name, custom_template_path=custom_template_path)

    def to_json_str(self) -> str:
        """The card as one line of JSON.

        Raises:
            CardError: If a text in it is not UTF-8, such as a file's name may be.
        """
        fields = _CARD.write(self)
        if self.muster and isinstance(fields, dict):
            fields[_EXTENSION] = self.muster
        return dump(fields)

    def mdcsum(self) -> str:
        """The card's digest, 64 hexadecimal digits; computed once."""
        return self._mdcsum

    @functools.cached_property
    def _mdcsum(self) -> str:
        return compute_mdcsum(self)

    @property
    def context_length(self) -> int:
        """How many tokens the model takes; 0 if nobody says.

        The runtime configuration's word, else the model's own, else the old field's.
        """
        candidates = (
            self.runtime_config.context_length,
            self.architectural_max_context_length,
            self.legacy_context_length,
        )
        return next((length for length in candidates if length is not None), 0)

    def iter_metadata_files(self) -> Iterator[tuple[CheckedFile, bool]]:
        """Every file, typed slots first, and whether it is a template not the model's own."""
        for slot in self._slots():
            yield slot.file, slot.is_custom
        for file in self.extra_files:
            yield file, False

    def iter_typed_files(self) -> Iterator[CheckedFile]:
        """The files in typed slots, in the order of the slots."""
        return (slot.file for slot in self._slots())

    def replace_files(self, change: Callable[[CheckedFile], CheckedFile]) -> ModelDeploymentCard:
        """The card with ``change`` applied to every file, in the order they are iterated in."""

        def changed(slot: Slot | None) -> Slot | None:
            return None if slot is None else msgspec.structs.replace(slot, file=change(slot.file))

        return msgspec.structs.replace(
            self,
            model_info=changed(self.model_info),
            tokenizer=changed(self.tokenizer),
            prompt_formatter=changed(self.prompt_formatter),
            chat_template_file=changed(self.chat_template_file),
            gen_config=changed(self.gen_config),
            extra_files=tuple(change(file) for file in self.extra_files),
        )

    def with_name(self, name: str) -> ModelDeploymentCard:
        """The card under another name, and the slug that name has."""
        return msgspec.structs.replace(self, display_name=name, slug=slugify(name))

    def _slots(self) -> Iterator[Slot]:
        slots = (
            self.model_info,
            self.tokenizer,
            self.prompt_formatter,
            self.chat_template_file,
            self.gen_config,
        )
        return (slot for slot in slots if slot is not None)


def _slug(text: str) -> str:
    bad = _NOT_SLUG.search(text)
    if bad is not None:
        raise CardError(f"Invalid char {bad.group()!r}. String can only contain a-z, 0-9, - and _.")
    return text


def _extension(root: Node) -> dict[str, Json]:
    """Our own key's object; empty if there is none, or another program used the key otherwise."""
    pairs = root.pairs if isinstance(root, Members) else []
    content = next((value for key, value in reversed(pairs) if key == _EXTENSION), None)
    try:
        value = to_json(content, _EXTENSION)
    except CardError:
        return {}
    return value if isinstance(value, dict) else {}


def _from_wire(context_length: int | None, **others: Any) -> ModelDeploymentCard:  # as read
    return ModelDeploymentCard(legacy_context_length=context_length, **others)


_CARD = Record(
    "struct ModelDeploymentCard",
    _from_wire,
    Field("display_name", TEXT),
    Field(
        "slug",
        TextAs("a valid slug string containing only characters a-z, 0-9, - and _.", _slug),
    ),
    Field("source_path", Maybe(TEXT), None, omit=if_none),
    Field("model_info", Maybe(MODEL_INFO), None, in_array=False),
    Field("tokenizer", Maybe(TOKENIZER), None, in_array=False),
    Field("prompt_formatter", Maybe(PROMPT_FORMATTER), None, omit=if_none),
    Field("chat_template_file", Maybe(CHAT_TEMPLATE), None, omit=if_none),
    Field("gen_config", Maybe(GEN_CONFIG), None, omit=if_none),
    Field("prompt_context", Maybe(ListOf(Choice(PromptContext))), None, omit=if_none),
    Field("architectural_max_context_length", Maybe(U32), None, omit=if_none),
    Field("context_length", Maybe(U32), None),
    Field("kv_cache_block_size", U32),
    Field("migration_limit", U32),
    Field("model_type", MODEL_TYPE),
    Field("model_input", Choice(ModelInput)),
    Field("worker_type", Maybe(Choice(WorkerType)), None),
    Field("needs", ListOf(ListOf(Choice(WorkerType))), ()),
    Field("lora", Maybe(LORA_INFO), None, omit=if_none),
    Field("aliases", ListOf(TEXT), (), omit=if_empty),
    Field("user_data", Maybe(ANY), None, omit=if_none),
    Field("runtime_config", RUNTIME_CONFIG, ModelRuntimeConfig()),
    Field("tensor_model_config", Maybe(TENSOR_MODEL_CONFIG), None, omit=if_none),
    Field("media_decoder", Maybe(MEDIA_DECODER), None),
    Field("media_fetcher", Maybe(MEDIA_FETCHER), None),
    Field("router_config", Maybe(ROUTER_CONFIG), None, omit=if_none),
    Field("indexer_identity", Maybe(INDEXER_IDENTITY), None, omit=if_none),
    Field("extra_files", ListOf(CHECKED_FILE), (), omit=if_empty),
)
