"""What a registration may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from muster.errors import InvalidArgument
from muster.model.model_type import ModelInput, ModelType, WorkerType
from muster.model.publish.registration import Registration, check_registration


def asked(**changes: Any) -> Registration:
    usual: dict[str, Any] = {
        "model_input": ModelInput.Tokens,
        "model_type": ModelType.Chat | ModelType.Completions,
        "worker_type": WorkerType.Aggregated,
        "needs": (),
        "has_tensor_config": False,
        "lora_name": None,
        "has_base_model": False,
        "user_data": None,
        "aliases": (),
    }
    return Registration(**(usual | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora_name": "x", "has_base_model": True},
        {"worker_type": WorkerType.Decode, "needs": [[WorkerType.Prefill]]},
        {
            "worker_type": WorkerType.Prefill,
            "model_type": ModelType.Prefill,
            "needs": [[WorkerType.Decode]],
        },
        {"has_tensor_config": True, "model_type": ModelType.TensorBased},
        {"user_data": {"a": [1, 2.5, None, True, {"b": "c"}], "t": (1,)}, "aliases": ["x", "y"]},
    ],
)
def test_what_makes_sense_is_let_through(changes: dict[str, Any]) -> None:
    check_registration(asked(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"worker_type": WorkerType.Encode, "model_input": ModelInput.Text},
            "prefill and encode workers take ModelInput.Tokens",
        ),
        (
            {"worker_type": WorkerType.Prefill, "needs": [[WorkerType.Decode]]},
            "no surface of its own but the Prefill marker",
        ),
        ({"worker_type": WorkerType.Decode}, "a decode worker must say which workers it needs"),
        ({"has_tensor_config": True}, "is for ModelType.TensorBased"),
        ({"lora_name": "x"}, "lora_name and base_model_path go together"),
        ({"has_base_model": True}, "lora_name and base_model_path go together"),
        ({"worker_type": "decode"}, "worker_type must be a WorkerType, not 'decode'"),
        ({"needs": [["prefill"]]}, "needs must be a WorkerType, not 'prefill'"),
        ({"model_input": "Tokens"}, "model_input must be a ModelInput"),
        ({"model_type": 3}, "model_type must be a ModelType"),
        ({"user_data": [1]}, r"user_data must be a dict, not \[1\]"),
        ({"user_data": {"a": [1, {2}]}}, r"user_data\['a'\]\[1\] cannot be written as JSON"),
        ({"user_data": {"a": float("nan")}}, r"user_data\['a'\] \(nan\) cannot be written"),
        ({"user_data": {"a": {1: 2}}}, r"the key 1 in user_data\['a'\] cannot be written"),
        ({"aliases": "abc"}, "model_aliases must be a list of texts, not 'abc'"),
        ({"aliases": [1]}, r"model_aliases must be a list of texts, not \[1\]"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        check_registration(asked(**changes))
