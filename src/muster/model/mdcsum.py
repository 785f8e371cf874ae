"""A card's digest: what must be equal for two workers to serve one model.

BLAKE3-256 over the concatenation that Dynamo 1.6.1 hashes, byte for byte. There are no separators
but those below, and no version in it. What is not hashed (slug, model type and input, migration
limit, LoRA, user data, tensors, media, most of the runtime configuration, sizes and places of
files) may differ between workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from blake3 import blake3

from muster.model.indexer_identity import IndexerIdentity
from muster.model.model_type import WorkerType
from muster.model.prompt_context import PromptContext
from muster.model.router_config import ROUTER_CONFIG
from muster.model.strictjson.node import Json
from muster.model.strictjson.writer import dump, sort_keys
from muster.model.white_space import trim

if TYPE_CHECKING:
    from muster.model.card import ModelDeploymentCard

__all__ = ["compute_mdcsum", "compute_terms"]

_CONTEXT_NAMES = {
    PromptContext.OAI_CHAT: "OaiChat",
    PromptContext.LLAMA3_DATE_TIME: "Llama3DateTime",
}
_WORKER_CODES = {
    None: b"\0",
    WorkerType.Prefill: b"\1",
    WorkerType.Decode: b"\2",
    WorkerType.Encode: b"\3",
    WorkerType.Aggregated: b"\4",
}
_TRUE_KEYS = ("vllm_enable_tower_connector_lora", "vllm_inference_v1_generate")
_CONTRACT_KEY = "vllm_nemotron_video_processor_contract"
_CONTRACT_LABEL = b"dynamo/model-card/runtime-contract/v1"
_IDENTITY_LABEL = b"dynamo/model-card/indexer-identity/v1"


def compute_mdcsum(card: ModelDeploymentCard) -> str:
    """The digest of ``card``: 64 lower-case hexadecimal digits."""
    hasher = blake3()
    for piece in _pieces(card):
        hasher.update(piece)
    return hasher.hexdigest()


def compute_terms(card: ModelDeploymentCard) -> str:
    """The digest of all that must be equal besides name, source and files; 64 hexadecimal digits.

    Ours alone: with a model's identity it tells whether two workers can serve together although they
    were made from different directories or host their files differently.
    """
    hasher = blake3()
    for piece in _terms(card):
        hasher.update(piece)
    return hasher.hexdigest()


def _pieces(card: ModelDeploymentCard) -> Iterator[bytes]:
    yield card.display_name.encode()
    yield (card.source_path or "").encode()
    for file in card.iter_typed_files():
        yield str(file.checksum).encode()
    extras = ((file.basename() or "").encode() for file in card.extra_files)
    digests = (file.checksum.hex.encode() for file in card.extra_files)
    for name, digest in sorted(zip(extras, digests, strict=True)):
        yield name + b"\0" + digest
    yield from _terms(card)


def _terms(card: ModelDeploymentCard) -> Iterator[bytes]:
    if card.prompt_context is not None:
        names = (_CONTEXT_NAMES[context] for context in card.prompt_context)
        yield f"[{', '.join(names)}]".encode()
    yield _u32(card.context_length)
    yield _u32(card.kv_cache_block_size)
    yield _WORKER_CODES[card.worker_type]
    yield _u32(len(card.needs))
    for alternative in card.needs:
        yield _u32(len(alternative))
        yield from (_WORKER_CODES[need] for need in alternative)
    if card.router_config is not None:
        yield blake3(dump(ROUTER_CONFIG.write(card.router_config)).encode()).digest()
    if card.indexer_identity is not None:
        yield from _identity(card.indexer_identity)
    if card.aliases:
        yield _u32(len(card.aliases))
        yield from (_u32(len(alias.encode())) + alias.encode() for alias in card.aliases)
    yield from _contracts(card.runtime_config.runtime_data)


def _identity(identity: IndexerIdentity) -> Iterator[bytes]:
    yield _IDENTITY_LABEL
    for facts in (identity.semantics, identity.routing_scope):
        if facts is None:
            yield b"\0"
            continue
        yield b"\1" + len(facts).to_bytes(4, "little")
        for key in sorted(facts):
            for text in (key.encode(), facts[key].encode()):
                yield len(text).to_bytes(4, "little") + text


def _contracts(runtime_data: dict[str, Json]) -> Iterator[bytes]:
    for key in _TRUE_KEYS:
        if _is_true(runtime_data.get(key)):
            yield b"\0" + key.encode() + b"\0true"
    if _CONTRACT_KEY in runtime_data:
        value = dump(sort_keys(runtime_data[_CONTRACT_KEY])).encode()
        yield b"\0" + _CONTRACT_LABEL + b"\0"
        yield len(_CONTRACT_KEY).to_bytes(8, "big") + _CONTRACT_KEY.encode()
        yield len(value).to_bytes(8, "big") + value


def _is_true(value: Json) -> bool:
    """True, or a text that says so, as engines' arguments do."""
    if isinstance(value, str):
        return trim(value).lower() in ("1", "true", "yes", "on")
    return value is True


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")
