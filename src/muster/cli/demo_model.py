"""A small model directory made on the spot: real files, real vocabulary, no weights."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

__all__ = ["write_demo_model"]

_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]


def write_demo_model(directory: Path) -> None:
    """Train a byte-level BPE tokenizer on the text beside this file and write a model around it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    text = resources.files("muster.cli").joinpath("demo_text.txt").read_text("utf-8")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(), trainer)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    end = tokenizer.token_to_id("<|end|>")
    files: dict[str, dict[str, Any]] = {
        "config.json": {
            "architectures": ["DemoForCausalLM"],
            "model_type": "demo",
            "max_position_embeddings": 4096,
            "vocab_size": tokenizer.get_vocab_size(),
            "eos_token_id": end,
        },
        "generation_config.json": {"eos_token_id": end, "temperature": 0.7},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|end|>",
            "model_max_length": 4096,
            "chat_template": _TEMPLATE,
        },
        "special_tokens_map.json": {"eos_token": "<|end|>"},
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=1), "utf-8")
