"""From a checked request for embeddings to what the worker is asked. Pure."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from muster.frontend.api_error import ApiError
from muster.frontend.embeddings.requests import EmbeddingsRequest, Input
from muster.frontend.served_model import ServedModel
from muster.llm.embedding import EmbeddingRequest, TextEmbeddingRequest

__all__ = ["WorkerRequest", "for_text", "for_tokens"]

WorkerRequest = EmbeddingRequest | TextEmbeddingRequest
"""What a worker is asked, in either form."""

Place = dict[str, Any] | UnsetType


def for_tokens(
    request: EmbeddingsRequest,
    inputs: list[Input],
    model: ServedModel,
    *,
    add_special_tokens: bool,
    routing: Place = UNSET,
    agent_context: Place = UNSET,
) -> EmbeddingRequest:
    """What a worker that takes tokens is asked. Texts are tokenized here: any thread may call it.

    Args:
        request: The request.
        inputs: Its inputs.
        model: The model.
        add_special_tokens: Whether texts get the tokens that begin and end them, if the request
            does not say.
        routing: As in ``EngineRequest``.
        agent_context: The same.

    Raises:
        ApiError: 400 if an input is too long, or has an id that the vocabulary has not.
        InvalidArgument: A text cannot be tokenized.
    """
    wanted = request.add_special_tokens
    longest = _longest(request, model)
    texts = [each for each in inputs if isinstance(each, str)]
    encoded = iter(
        model.preprocessor.tokenizer.encode_batch(
            texts, add_special_tokens=add_special_tokens if wanted is None else wanted
        )
        if texts
        else ()
    )
    token_ids = [next(encoded)[:longest] if isinstance(each, str) else each for each in inputs]
    for position, ids in enumerate(token_ids):
        _check_ids(ids, position, model)
    return EmbeddingRequest(
        inputs=token_ids,
        model=model.name,
        encoding_format=request.encoding_format or UNSET,
        truncate_prompt_tokens=_or_unset(request.truncate_prompt_tokens),
        dimensions=request.dimensions,
        mdc_sum=model.mdc_sum,
        annotations=(request.nvext.annotations if request.nvext else None) or [],
        routing=routing,
        agent_context=agent_context,
    )


def for_text(
    request: EmbeddingsRequest,
    model: ServedModel,
    *,
    routing: Place = UNSET,
    agent_context: Place = UNSET,
) -> TextEmbeddingRequest:
    """What a worker that takes text is asked; the arguments as for ``for_tokens``."""
    annotations = request.nvext.annotations if request.nvext else None
    given: Any = request.input
    return TextEmbeddingRequest(
        model=model.name,
        input=given,
        encoding_format=request.encoding_format or UNSET,
        user=request.user or UNSET,
        dimensions=_or_unset(request.dimensions),
        add_special_tokens=(
            UNSET if request.add_special_tokens is None else request.add_special_tokens
        ),
        truncate_prompt_tokens=_or_unset(request.truncate_prompt_tokens),
        nvext={"annotations": annotations} if annotations else UNSET,
        routing=routing,
        agent_context=agent_context,
    )


def _or_unset(value: int | None) -> int | UnsetType:
    return UNSET if value is None else value


def _longest(request: EmbeddingsRequest, model: ServedModel) -> int | None:
    """To how many tokens texts are cut; ``None`` if they are not."""
    wanted, limit = request.truncate_prompt_tokens, model.context_length
    if wanted == -1:
        return limit or None
    if wanted is not None and limit and wanted > limit:
        raise ApiError(
            400,
            f"truncate_prompt_tokens is {wanted}; the context length of the model `{model.name}` "
            f"is {limit} tokens",
            param="truncate_prompt_tokens",
            slug="invalid_value",
        )
    return wanted


def _check_ids(ids: list[int], position: int, model: ServedModel) -> None:
    limit, size = model.context_length, model.preprocessor.tokenizer.vocab_size
    if not ids:  # of a text whose characters the tokenizer drops
        raise ApiError(400, f"Input {position} has no tokens", param="input", slug="invalid_value")
    if limit and len(ids) > limit:
        raise ApiError(
            400,
            f"Input {position} has {len(ids)} tokens; the context length of the model "
            f"`{model.name}` is {limit} tokens. Shorten it, or ask for `truncate_prompt_tokens`.",
            param="input",
            slug="context_length_exceeded",
        )
    highest = max(ids)
    if highest >= size:
        raise ApiError(
            400,
            f"Input {position} has the token {highest}; the vocabulary of the model "
            f"`{model.name}` ends at {size - 1}",
            param="input",
            slug="invalid_value",
        )
