"""Every place where a model's files may say how a reply ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from muster.llm.generation import (
    GenerationSettings,
    SamplingDefaults,
    read_generation_settings,
    special_token_text,
)

VOCABULARY = {"<s>": 1, "</s>": 2, "<|im_end|>": 259, "<|end|>": 7}


def read(
    *,
    config: dict[str, Any] | None = None,
    generation_config: dict[str, Any] | None = None,
    tokenizer_config: dict[str, Any] | None = None,
    special_tokens_map: dict[str, Any] | None = None,
    special_tokens: Iterable[str] = (),
) -> GenerationSettings:
    return read_generation_settings(
        config=config or {},
        generation_config=generation_config or {},
        tokenizer_config=tokenizer_config or {},
        special_tokens_map=special_tokens_map or {},
        find_token=VOCABULARY.get,
        special_tokens=special_tokens,
    )


class TestEos:
    # The first three are what Dynamo 1.6.1 was seen to send.
    @pytest.mark.parametrize(
        ("files", "ids"),
        [
            (
                {
                    "config": {"eos_token_id": 257},
                    "tokenizer_config": {"eos_token": "<|im_end|>"},
                },
                (257, 259),
            ),
            ({"tokenizer_config": {"eos_token": "<|im_end|>"}}, (259,)),
            (
                {
                    "generation_config": {"eos_token_id": 260},
                    "tokenizer_config": {"eos_token": "<|im_end|>"},
                },
                (260, 259),
            ),
            (
                {"config": {"eos_token_id": [5, 6]}, "generation_config": {"eos_token_id": 6}},
                (5, 6),
            ),
            ({"config": {"eos_token_id": 0}}, (0,)),
            ({"config": {"text_config": {"eos_token_id": [8]}}}, (8,)),
            ({"config": {"eos_token_id": 4, "text_config": {"eos_token_id": 8}}}, (4,)),
            ({"tokenizer_config": {"eos_token": {"content": "</s>", "lstrip": False}}}, (2,)),
            ({"special_tokens_map": {"eos_token": {"content": "</s>"}}}, (2,)),
            ({"config": {"eos_token_id": 9}, "special_tokens_map": {"eos_token": "</s>"}}, (9,)),
            ({"special_tokens": ["<s>", "</s>"]}, (2,)),
            ({"special_tokens": ["<|end|>"]}, ()),
            ({"tokenizer_config": {"eos_token": "not in the vocabulary"}}, ()),
            ({"config": {"eos_token_id": None}, "tokenizer_config": {"eos_token": None}}, ()),
            ({"config": {"eos_token_id": ["x", True, -1, 2.5]}}, ()),
            ({}, ()),
        ],
    )
    def test_is_found(self, files: dict[str, Any], ids: tuple[int, ...]) -> None:
        assert read(**files).eos_token_ids == ids


class TestBos:
    def test_the_first_source_that_has_one_counts(self) -> None:
        assert read(tokenizer_config={"bos_token": "<s>"}).bos_token_id == 1
        assert read(
            config={"bos_token_id": 0}, tokenizer_config={"bos_token": "<s>"}
        ).bos_token_id == (0)
        assert read().bos_token_id is None


class TestSampling:
    def test_defaults_are_read(self) -> None:
        values = {
            "temperature": 1,
            "top_p": 0.95,
            "top_k": 20,
            "repetition_penalty": 1.05,
            "do_sample": True,
            "max_new_tokens": 2048,
        }
        assert read(generation_config=values).sampling == SamplingDefaults(
            temperature=1.0,
            top_p=0.95,
            top_k=20,
            repetition_penalty=1.05,
            do_sample=True,
            max_new_tokens=2048,
        )

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", True, [1], 10**400, None])
    def test_nonsense_is_as_good_as_silence(self, value: object) -> None:
        sampling = read(generation_config={"temperature": value, "top_k": value}).sampling
        assert sampling == SamplingDefaults()


@pytest.mark.parametrize(
    ("entry", "text"),
    [("</s>", "</s>"), ({"content": "</s>"}, "</s>"), ("", None), ({}, None), (3, None)],
)
def test_special_tokens_are_texts_or_objects(entry: object, text: str | None) -> None:
    assert special_token_text(entry) == text
