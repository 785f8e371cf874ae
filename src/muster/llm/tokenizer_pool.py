"""Loaded tokenizers, shared by the models whose files say the same.

A large vocabulary takes a quarter of a second and sixty megabytes; a base and its LoRAs, or a
hundred names for fine-tuned models of one family, have the same.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from muster.errors import CardError
from muster.llm.tokenizer import Tokenizer

__all__ = ["TokenizerPool"]


class TokenizerPool:
    """Tokenizers by what they are made from, kept while somebody uses them. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: weakref.WeakValueDictionary[bytes, Tokenizer] = weakref.WeakValueDictionary()
        self._loading: dict[bytes, Future[Tokenizer]] = {}

    def __len__(self) -> int:
        return len(self._loaded)

    def load(
        self,
        path: Path,
        *,
        tokenizer_config: Mapping[str, Any] | None = None,
        model_type: str | None = None,
    ) -> Tokenizer:
        """As ``Tokenizer.load``; who comes while the same is being loaded waits for it.

        Raises:
            CardError: As ``Tokenizer.load``.
        """
        key = _key(path, tokenizer_config or {}, model_type)
        with self._lock:
            tokenizer = self._loaded.get(key)
            if tokenizer is not None:
                return tokenizer
            under_way = self._loading.get(key)
            mine: Future[Tokenizer] = Future()
            if under_way is None:
                self._loading[key] = mine
        if under_way is not None:
            return under_way.result()
        try:
            tokenizer = Tokenizer.load(
                path, tokenizer_config=tokenizer_config, model_type=model_type
            )
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            with self._lock:
                self._loaded[key] = tokenizer
            mine.set_result(tokenizer)
            return tokenizer
        finally:
            with self._lock:
                del self._loading[key]


def _key(path: Path, tokenizer_config: Mapping[str, Any], model_type: str | None) -> bytes:
    """A digest of all that a tokenizer depends on: the name says what kind of file it is."""
    digest = blake3()
    try:
        digest.update_mmap(path)
    except OSError as error:
        raise CardError(f"{path} is not a usable tokenizer: {error}") from error
    rest = msgspec.json.encode([path.name, tokenizer_config, model_type], order="deterministic")
    return digest.digest() + blake3(rest).digest()
