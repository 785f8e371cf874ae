"""What a registration may ask for: pure checks of ``register_model``'s arguments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from muster.errors import InvalidArgument
from muster.model.model_type import ModelInput, ModelType, WorkerType

__all__ = ["Registration", "check_registration"]


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments that depend on each other, or could be anything."""

    model_input: ModelInput
    model_type: ModelType
    worker_type: WorkerType
    needs: Sequence[Sequence[WorkerType]]
    has_tensor_config: bool
    lora_name: str | None
    has_base_model: bool
    user_data: dict[str, Any] | None
    aliases: Sequence[str]


def check_registration(asked: Registration) -> None:
    """Refuse what cannot be registered.

    Raises:
        InvalidArgument: The first thing that is wrong.
    """
    for complaint in _complaints(asked):
        raise InvalidArgument(complaint)


def _complaints(asked: Registration) -> Iterator[str]:
    yield from _wrong_types(asked)
    worker = asked.worker_type
    takes_tokens = worker in (WorkerType.Prefill, WorkerType.Encode)
    if takes_tokens and asked.model_input is not ModelInput.Tokens:
        yield "prefill and encode workers take ModelInput.Tokens"
    if worker is WorkerType.Prefill and asked.model_type & ~ModelType.Prefill:
        yield "a prefill worker has no surface of its own but the Prefill marker"
    if worker is not WorkerType.Aggregated and not asked.needs:
        yield f"a {worker.value} worker must say which workers it needs"
    if asked.has_tensor_config and not asked.model_type & ModelType.TensorBased:
        yield "tensor_model_config is for ModelType.TensorBased"
    if (asked.lora_name is not None) != asked.has_base_model:
        yield "lora_name and base_model_path go together: give both or neither"


def _wrong_types(asked: Registration) -> Iterator[str]:
    for name, value, wanted in (
        ("model_input", asked.model_input, ModelInput),
        ("model_type", asked.model_type, ModelType),
        ("worker_type", asked.worker_type, WorkerType),
        *(("needs", each, WorkerType) for group in asked.needs for each in group),
        ("user_data", {} if asked.user_data is None else asked.user_data, dict),
    ):
        if not isinstance(value, wanted):
            yield f"{name} must be a {wanted.__name__}, not {value!r}"
    if isinstance(asked.aliases, str) or not all(isinstance(each, str) for each in asked.aliases):
        yield f"model_aliases must be a list of texts, not {asked.aliases!r}"
    if asked.user_data is not None:
        odd = _not_json(asked.user_data, "user_data")
        if odd is not None:
            yield f"{odd} cannot be written as JSON"


def _not_json(value: Any, where: str) -> str | None:
    """Where in ``value`` something is that JSON has no form for; ``None`` if nothing is."""
    if isinstance(value, dict):
        items = [(f"{where}[{key!r}]", item) for key, item in value.items()]
        odd_key = next((key for key in value if not isinstance(key, str)), None)
        if odd_key is not None:
            return f"the key {odd_key!r} in {where}"
        return next(filter(None, (_not_json(item, name) for name, item in items)), None)
    if isinstance(value, list | tuple):
        places = (_not_json(item, f"{where}[{index}]") for index, item in enumerate(value))
        return next(filter(None, places), None)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{where} ({value})"
    return None if value is None or isinstance(value, str | int | float) else where
