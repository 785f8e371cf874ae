"""From an ``Embedder`` to the handler of an endpoint, in the form frontends of both kinds read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from muster.errors import EngineError
from muster.llm.embedding import (
    Embedder,
    EmbeddingRequest,
    pack_floats,
    read_embedding_request,
)
from muster.wire.context import Context

__all__ = ["PROBE", "EmbeddingHandler"]

PROBE: dict[str, Any] = {"token_ids": [[1]], "model": "", "_HEALTH_CHECK": True}
"""What the canary asks an engine that embeds."""


class EmbeddingHandler:
    """Serves an engine that embeds: ``serve_endpoint(EmbeddingHandler(engine).generate)``.

    Args:
        embedder: The engine. Register its model with ``ModelInput.Tokens`` and
            ``ModelType.Embedding``.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def generate(
        self, request: EmbeddingRequest | dict[str, Any], context: Context
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Answer one request, with one item.

        Raises:
            InvalidArgument: The request is none for embeddings.
            EngineError: The engine gave another number of vectors than there are inputs, or
                something else than numbers.
            MusterError: What the engine raises.
        """
        typed = read_embedding_request(request)
        found = await self._embedder.embed(typed, context)
        if len(found.vectors) != len(typed.inputs):
            raise EngineError(
                f"the engine gave {len(found.vectors)} embeddings for {len(typed.inputs)} inputs"
            )
        tokens = len(typed.token_ids) if found.prompt_tokens is None else found.prompt_tokens
        yield {
            "embeddings": [pack_floats(vector) for vector in found.vectors],
            "prompt_tokens": tokens,
            "total_tokens": tokens,
        }
