"""What a card that was built is served as. Pure."""

from __future__ import annotations

from muster.frontend.guard.busy import Capacity
from muster.frontend.model_build import BuiltModel
from muster.frontend.route_policy import RoutePolicy
from muster.frontend.served_model import Generate, ModelLimits, ServedModel
from muster.model.card import ModelDeploymentCard
from muster.model.catalog.decision import Build
from muster.model.model_type import ModelInput, ModelType

__all__ = ["capacity_of", "served_model"]


def capacity_of(card: ModelDeploymentCard) -> Capacity:
    """What one of the card's instances holds, as far as the card says."""
    config = card.runtime_config
    return Capacity(
        block_size=card.kv_cache_block_size,
        blocks=config.total_kv_blocks or 0,
        batched_tokens=config.max_num_batched_tokens or 0,
    )


def served_model(
    build: Build,
    built: BuiltModel,
    *,
    created: int,
    generate: Generate,
    policy: RoutePolicy,
    sampling_defaults: bool,
) -> ServedModel:
    """The model that requests see.

    Args:
        build: What was built: the name, the endpoint and the card's checksum.
        built: The card and what was loaded.
        created: Seconds since the epoch; when the name was first served.
        generate: Sends a request to an instance.
        policy: Where requests go.
        sampling_defaults: Whether the model's own sampling settings fill in for clients'.
    """
    card, preprocessor = built.card, built.preprocessor
    config = card.runtime_config
    return ServedModel(
        name=build.group.model,
        created=created,
        preprocessor=preprocessor,
        generate=generate,
        context_length=card.context_length,
        aliases=card.aliases,
        chat=bool(card.model_type & ModelType.Chat) and preprocessor.serves_chat,
        completions=bool(card.model_type & ModelType.Completions),
        embeddings=bool(card.model_type & ModelType.Embedding),
        takes_text=card.model_input is ModelInput.Text,
        mdc_sum=build.mdcsum,
        tool_call_parser=config.tool_call_parser,
        reasoning_parser=config.reasoning_parser,
        tools_when_none=not config.exclude_tools_when_tool_choice_none,
        lora=card.lora is not None,
        endpoint=str(build.group.endpoint_id),
        sampling=preprocessor.generation.sampling if sampling_defaults else None,
        limits=ModelLimits(
            kv_block_size=card.kv_cache_block_size,
            kv_blocks=config.total_kv_blocks,
            num_seqs=config.max_num_seqs,
            batched_tokens=config.max_num_batched_tokens,
            migrations=policy.limits.before_first,
        ),
    )
