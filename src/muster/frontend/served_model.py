"""A model that can answer requests: how to prepare them, and where to send them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from muster.frontend.engine_stream import ResponseStream
from muster.llm.generation import SamplingDefaults
from muster.llm.preprocessor import Preprocessor
from muster.llm.protocol import EngineOutput, EngineRequest
from muster.runtime import Context

__all__ = ["Generate", "ModelLimits", "ServedModel"]


class Generate(Protocol):
    """Sends a request to one of the model's instances."""

    async def __call__(
        self, request: EngineRequest, *, context: Context
    ) -> ResponseStream[EngineOutput]:
        """Return the response, which may still fail at its first ``batch``.

        The context's id, metadata and trace travel with the request; stopping it does not reach the
        response. Cancelling the call drops the request.

        Raises:
            MusterError: If there is no instance, or none can be reached.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """What a model's card says of each of its workers, for metrics; ``None`` if it does not say.

    Attributes:
        kv_block_size: Tokens of a block of the KV cache; 0 if there is none.
        kv_blocks: Blocks of the cache.
        num_seqs: Most sequences at a time.
        batched_tokens: Most tokens computed in a step.
        migrations: How often a request may move before its first token, here.
    """

    kv_block_size: int = 0
    kv_blocks: int | None = None
    num_seqs: int | None = None
    batched_tokens: int | None = None
    migrations: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One entry of the model table.

    Attributes:
        name: The name replies carry.
        created: When it was first registered, in seconds since the epoch; stays the same.
        preprocessor: Its template and tokenizer.
        generate: Sends requests to its workers.
        context_length: Longest prompt and output together, in tokens; 0 if unknown.
        aliases: Further names.
        chat: Whether it takes chat requests.
        completions: Whether it takes completion requests.
        embeddings: Whether it takes requests for embeddings.
        takes_text: Whether its workers tokenize; then it does nothing but embed.
        mdc_sum: Digest of its card, sent along with requests.
        tool_call_parser: How it writes tool calls, by its card.
        reasoning_parser: How it marks reasoning, by its card.
        tools_when_none: Whether the template is shown tools that ``tool_choice`` forbids to call.
        lora: Whether it is a LoRA adapter.
        sampling: Values of requests that name none; ``None`` leaves them to the engine.
        limits: What its workers can hold, and how often its requests may move.
        endpoint: Where it is served, for telling an adapter's base; empty if that is not known.
        pick: Where several cards have this name: gives the one whose turn it is, or that a
            session of this name belongs to.
    """

    name: str
    created: int
    preprocessor: Preprocessor
    generate: Generate
    context_length: int = 0
    aliases: tuple[str, ...] = ()
    chat: bool = True
    completions: bool = True
    embeddings: bool = False
    takes_text: bool = False
    mdc_sum: str | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    tools_when_none: bool = False
    lora: bool = False
    endpoint: str = ""
    sampling: SamplingDefaults | None = None
    limits: ModelLimits = ModelLimits()
    pick: Callable[[str], ServedModel] | None = None

    @property
    def surfaces(self) -> tuple[str, ...]:
        """What it can be asked for, by the names of endpoints in metrics."""
        flags = {
            "chat_completions": self.chat,
            "completions": self.completions,
            "embeddings": self.embeddings,
        }
        return tuple(name for name, served in flags.items() if served)
