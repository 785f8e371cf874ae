"""Models without a tokenizer.json, from a worker's directory to an answer."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
import sentencepiece

from muster.discovery.memory import MemoryRegistry
from muster.testing.fleet import frontend, serve, worker
from muster.testing.loops import run

SPECIAL = ["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"]
TEXT = "hello, größe 🙂"


def _add(model: Path, first_id: int) -> None:
    path = model / "tokenizer_config.json"
    added = {
        str(token_id): {"content": text, "special": True}
        for token_id, text in enumerate(SPECIAL, first_id)
    }
    config = {**json.loads(path.read_text()), "added_tokens_decoder": added}
    path.write_text(json.dumps(config))
    (model / "tokenizer.json").unlink()


def _write_ranks(model: Path, name: str) -> None:
    lines = [b"%b %d\n" % (base64.b64encode(bytes([byte])), byte) for byte in range(256)]
    (model / name).write_bytes(b"".join(lines))
    _add(model, 256)


def _write_sentencepiece(model: Path, name: str) -> None:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["hello, the sea is large and the sky is wide"] * 4),
        model_writer=written,
        model_type="bpe",
        vocab_size=300,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (model / name).write_bytes(written.getvalue())
    size = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue()).vocab_size()
    _add(model, size)


@pytest.mark.parametrize("name", ["tiktoken.model", "own.tiktoken", "tokenizer.model"])
def test_a_model_is_served_with_its_own_kind_of_tokenizer(
    model: Path, tmp_path: Path, name: str
) -> None:
    write = _write_sentencepiece if name == "tokenizer.model" else _write_ranks
    write(model, name)

    async def scenario() -> None:
        registry = MemoryRegistry()
        async with frontend(registry, tmp_path) as site, worker(registry) as runtime:
            await serve(runtime, model)
            await site.listed("tiny")
            assert await site.echo(TEXT) == TEXT
            (view,) = (site.cache / "by-slug" / "tiny").iterdir()
            assert (view / name).is_file()

    run(scenario())
