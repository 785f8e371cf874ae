"""A model directory of a few kilobytes, written on the spot: a byte vocabulary and a chat template.

Token ``n`` below 256 is the byte ``n``, so tests can say exactly which tokens a reply has, also
ones that cut a character in two. Four special tokens follow.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

__all__ = ["BOS", "EOS", "IM_END", "IM_START", "TEMPLATE", "token_ids", "write_tiny_model"]

BOS, EOS, IM_START, IM_END = 256, 257, 258, 259
"""Ids of the special tokens ``<|bos|>``, ``<|eos|>``, ``<|im_start|>`` and ``<|im_end|>``."""

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def token_ids(text: str | bytes) -> list[int]:
    """The ids of ``text``: its bytes in UTF-8."""
    return list(text.encode() if isinstance(text, str) else text)


def _byte_characters() -> list[str]:
    """The printable stand-in of each byte in byte-level vocabularies (GPT-2's table)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return [
        chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)
    ]


def write_tiny_model(directory: Path, *, context_length: int = 2048) -> Path:
    """Write the model's files into ``directory``, which must exist, and return it.

    Its end-of-sequence ids are ``IM_END`` (tokenizer_config.json) and ``EOS`` (config.json).
    """
    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in specials])
    tokenizer.save(str(directory / "tokenizer.json"))
    files = {
        "config.json": {
            "architectures": ["TinyForCausalLM"],
            "model_type": "tiny",
            "max_position_embeddings": context_length,
            "vocab_size": 260,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|bos|>",
            "eos_token": "<|im_end|>",
            "chat_template": TEMPLATE,
            "model_max_length": context_length,
        },
        "generation_config.json": {"eos_token_id": [EOS], "temperature": 0.7},
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=2), "utf-8")
    return directory
