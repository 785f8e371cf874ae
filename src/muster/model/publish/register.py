"""Register a worker's model: make its card, serve its files, tell the registry; and undo it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import msgspec

from muster.model.card import ModelDeploymentCard
from muster.model.lora import LoraInfo
from muster.model.media import MediaDecoder, MediaFetcher
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.publish.hub_cache import find_model
from muster.model.publish.publication import Publication
from muster.model.publish.publisher import Publisher
from muster.model.publish.registration import Registration, check_registration
from muster.model.router_config import RouterConfig
from muster.model.runtime_config import ModelRuntimeConfig
from muster.model.tensor_config import TensorModelConfig
from muster.names import slugify
from muster.runtime import Endpoint

__all__ = ["register_llm", "register_model", "unregister_llm", "unregister_model"]

_DEFAULT_BLOCK_SIZE = 16
_NO_FILES = ModelType.TensorBased | ModelType.Images | ModelType.Videos | ModelType.Realtime


async def register_model(
    model_input: ModelInput,
    model_type: ModelType,
    endpoint: Endpoint,
    model_path: str | os.PathLike[str],
    model_name: str | None = None,
    *,
    worker_type: WorkerType,
    kv_cache_block_size: int | None = None,
    router_config: RouterConfig | None = None,
    runtime_config: ModelRuntimeConfig | None = None,
    tensor_model_config: TensorModelConfig | None = None,
    user_data: dict[str, Any] | None = None,
    custom_template_path: str | os.PathLike[str] | None = None,
    media_decoder: MediaDecoder | None = None,
    media_fetcher: MediaFetcher | None = None,
    lora_name: str | None = None,
    base_model_path: str | os.PathLike[str] | None = None,
    needs: Sequence[Sequence[WorkerType]] | None = None,
    self_host_metadata: bool | None = None,
    ignore_weights: bool = False,
    max_gpu_lora_count: int | None = None,
    model_aliases: Sequence[str] | None = None,
    skip_model_assets: bool = False,
) -> Publication:
    """Publish a model that ``endpoint`` serves in this process.

    The card is made from the model's directory and written to the registry; with self-hosting, its
    files are served by this process's status server and the card names their URLs. Without a status
    server that is skipped with a warning, and the card names paths, or ``hf://`` addresses for a
    model given by its hub name. The registration ends with the runtime.

    What is served are private copies, made now, of the bytes the card's digests are of: editing,
    replacing or deleting the files does not change them, and is logged as drift. Nothing is served
    before the registry has the card, and nothing stays if it refuses it. The same registration once
    more changes nothing. One that differs in what is no part of the model's group, digest and
    identity (``user_data``, taints) takes the first one's place at once; any other is refused.

    Args:
        model_input: What requests carry: ``Text``, ``Tokens`` or ``Tensor``.
        model_type: The surfaces, or-ed together.
        endpoint: The endpoint that serves it.
        model_path: Its directory, or its name in a hub's cache on this host.
        model_name: What clients call it; by default ``model_path`` as given.
        worker_type: What this worker does in the fleet.
        kv_cache_block_size: Tokens in a block of the engine's cache; 16 by default.
        router_config: How frontends are to route to it.
        runtime_config: Facts about the engine.
        tensor_model_config: Inputs and outputs of a ``TensorBased`` model.
        user_data: Any JSON object, carried along.
        custom_template_path: A chat template to use instead of the model's own.
        media_decoder: How frontends decode media in requests.
        media_fetcher: How frontends fetch media in requests.
        lora_name: Registers a LoRA adapter of this name; ``base_model_path`` must be given too.
        base_model_path: The adapter's base model, whose files are published.
        needs: Which other worker types it needs: alternatives, each a list of all that it takes.
        self_host_metadata: Whether to serve the files here; by default the setting
            ``DYN_SELF_HOST_METADATA``.
        ignore_weights: Take a model from the hub's cache also if its weights are not there.
        max_gpu_lora_count: How many adapters fit at a time.
        model_aliases: Further names for clients.
        skip_model_assets: Publish the name alone, without files.

    Raises:
        InvalidArgument: If an argument is nonsense, or some do not go together.
        CardError: If the model's directory cannot be read or makes no card, or a file of it cannot
            be served: two have one name, or one is a link out of the directory.
        ContentError: If a file cannot be read, changes meanwhile, or there is no room for its copy.
        ConflictError: If the endpoint has another model already, or this one with other content.
        DiscoveryError: If the registry cannot be written. Nothing is left behind.
    """
    check_registration(
        Registration(
            model_input=model_input,
            model_type=model_type,
            worker_type=worker_type,
            needs=needs or (),
            has_tensor_config=tensor_model_config is not None,
            lora_name=lora_name,
            has_base_model=base_model_path is not None,
            user_data=user_data,
            aliases=model_aliases or (),
        )
    )
    source_path = os.fspath(base_model_path if base_model_path is not None else model_path)
    name = lora_name or model_name or source_path
    changes: dict[str, Any] = {
        "model_type": model_type,
        "model_input": model_input,
        "worker_type": worker_type,
        "needs": tuple(tuple(each) for each in needs or ()),
        "source_path": source_path,
        "aliases": tuple(model_aliases or ()),
        "user_data": user_data,
        "runtime_config": runtime_config or ModelRuntimeConfig(),
        "tensor_model_config": tensor_model_config,
        "media_decoder": media_decoder,
        "media_fetcher": media_fetcher,
        "router_config": router_config,
        "lora": LoraInfo(name=lora_name, max_gpu_lora_count=max_gpu_lora_count)
        if lora_name is not None
        else None,
    }
    publisher = Publisher.of(endpoint.runtime)
    if skip_model_assets or model_type & _NO_FILES:
        bare = ModelDeploymentCard(display_name=name, slug=slugify(name), **changes)
        return await publisher.publish(bare, endpoint.id(), directory=None, self_host=False)
    changes["kv_cache_block_size"] = (
        _DEFAULT_BLOCK_SIZE if kv_cache_block_size is None else kv_cache_block_size
    )
    settings = endpoint.runtime.settings.metadata
    directory = await asyncio.to_thread(
        find_model, source_path, settings, ignore_weights=ignore_weights
    )
    loaded = await asyncio.to_thread(
        ModelDeploymentCard.load, directory, name, custom_template_path=custom_template_path
    )
    wanted = self_host_metadata if self_host_metadata is not None else settings.self_host
    card = msgspec.structs.replace(loaded, **changes)
    return await publisher.publish(card, endpoint.id(), directory=directory, self_host=wanted)


async def unregister_model(endpoint: Endpoint, lora_name: str | None = None) -> None:
    """Withdraw the model, or one LoRA adapter of it, that this process registered at ``endpoint``.

    The registry comes first: if it fails, the files are still served and the call can be repeated.

    Raises:
        NotRegisteredError: It is not registered.
        DiscoveryError: The registry cannot be written.
    """
    slug = slugify(lora_name) if lora_name is not None else None
    await Publisher.of(endpoint.runtime).withdraw(endpoint.id(), slug)


register_llm = register_model
"""The older name, as with Dynamo."""
unregister_llm = unregister_model
"""The older name, as with Dynamo."""
