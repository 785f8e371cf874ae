"""Reading a model's tokenizer, whichever kind of file it is.

tokenizer.json is what the ``tokenizers`` package itself reads. tiktoken and SentencePiece files are
made into a tokenizer of that package, so that there is one way to encode and to decode. The kind is
found in the file, not in its name: ``tokenizer.model`` is used for two of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import tokenizers

from muster.errors import CardError, MusterError
from muster.llm.generation import special_token_text
from muster.llm.sentencepiece_model import build_sentencepiece, reads_leading_space
from muster.llm.sentencepiece_proto import read_sentencepiece
from muster.llm.tiktoken_family import find_family
from muster.llm.tiktoken_file import build_tiktoken, is_tiktoken, read_ranks

__all__ = ["RawTokenizer", "foreign_errors", "read_tokenizer"]


class RawTokenizer(msgspec.Struct, frozen=True):
    """A tokenizer as the library knows it, and what the library leaves to its callers.

    Attributes:
        loaded: The tokenizer, as the ``tokenizers`` package has it.
        doubles_leading_space: Whether a space at the beginning of a text does not stand for the one
            that is read before every text, but is one of its own.
    """

    loaded: tokenizers.Tokenizer
    doubles_leading_space: bool = False


def read_tokenizer(
    path: Path, *, tokenizer_config: Mapping[str, Any], model_type: str | None
) -> RawTokenizer:
    """Read a tokenizer.json, a tiktoken file or a SentencePiece model.

    Args:
        path: The file.
        tokenizer_config: The parsed tokenizer_config.json: tokens that the file lacks, or does not
            mark as special, are added as its ``added_tokens_decoder`` says.
        model_type: ``model_type`` of config.json.

    Raises:
        CardError: If the file cannot be read, or is none of these; says which file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CardError(f"cannot read {path}: {error.strerror or error}") from error
    entries = tokenizer_config.get("added_tokens_decoder")
    added_tokens = entries if isinstance(entries, Mapping) else {}
    if path.suffix == ".json" or data[:1] == b"{":
        with foreign_errors(CardError, f"{path} is not a usable tokenizer.json"):
            raw = RawTokenizer(tokenizers.Tokenizer.from_buffer(data))
            _finish(raw.loaded, added_tokens)
            return raw
    if path.name.endswith((".tiktoken", "tiktoken.model")) or is_tiktoken(data):
        with _named(path, "tiktoken file"):
            family = find_family(path, tokenizer_config=tokenizer_config, model_type=model_type)
            return RawTokenizer(build_tiktoken(read_ranks(data), family, added_tokens))
    with _named(path, "SentencePiece model"):
        model = read_sentencepiece(data)
        raw = RawTokenizer(
            build_sentencepiece(model, tokenizer_config),
            reads_leading_space(model, tokenizer_config),
        )
        _finish(raw.loaded, added_tokens)
        return raw


def _finish(hf: tokenizers.Tokenizer, added_tokens: Mapping[str, Any]) -> None:
    # A file may ask for truncation or padding; a prompt gets neither.
    hf.no_truncation()
    hf.no_padding()
    _add_tokens(hf, added_tokens)


def _add_tokens(hf: tokenizers.Tokenizer, added_tokens: Mapping[str, Any]) -> None:
    known = hf.get_added_tokens_decoder()
    special_texts = {token.content for token in known.values() if token.special}
    entries = [
        (int(key), entry)
        for key, entry in added_tokens.items()
        if key.isdecimal() and isinstance(entry, Mapping)
    ]
    for _, entry in sorted(entries, key=lambda pair: pair[0]):
        text = special_token_text(entry)
        special = entry.get("special") is True
        if text is None or text in special_texts:
            continue
        if not special and hf.token_to_id(text) is not None:
            continue
        token = tokenizers.AddedToken(
            text,
            single_word=entry.get("single_word") is True,
            lstrip=entry.get("lstrip") is True,
            rstrip=entry.get("rstrip") is True,
            normalized=entry.get("normalized", not special) is True,
            special=special,
        )
        hf.add_special_tokens([token]) if special else hf.add_tokens([token])


@contextlib.contextmanager
def foreign_errors(error_type: type[MusterError], message: str) -> Iterator[None]:
    """Turn whatever the library raises into our own error.

    It raises plain ``Exception``, and when its Rust code panics something that is not even one.
    """
    try:
        yield
    except MusterError:
        raise
    except BaseException as error:
        panic = type(error).__name__ == "PanicException"
        if panic or isinstance(error, Exception):
            raise error_type(f"{message}: {error}") from error
        raise


@contextlib.contextmanager
def _named(path: Path, kind: str) -> Iterator[None]:
    """Say which file it is that makes no sense."""
    try:
        with foreign_errors(CardError, "the tokenizers package refuses it"):
            yield
    except CardError as error:
        raise CardError(
            f"{path} is not a usable {kind}: {error.message}",
            hint=error.hint
            or "publish the model with a tokenizer.json (transformers can write one)",
        ) from error
