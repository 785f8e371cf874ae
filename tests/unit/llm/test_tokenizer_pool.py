from __future__ import annotations

import gc
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from muster.errors import CardError
from muster.llm.preprocessor import ModelFiles, Preprocessor
from muster.llm.tokenizer_pool import TokenizerPool
from muster.testing.tiny_model import write_tiny_model


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_model(_made(tmp_path / "tiny")) / "tokenizer.json"


def test_the_same_bytes_elsewhere_are_the_same_tokenizer(path: Path, tmp_path: Path) -> None:
    pool = TokenizerPool()
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(path, other)
    assert pool.load(path) is pool.load(other / path.name)


def test_whatever_a_tokenizer_depends_on_tells_them_apart(path: Path) -> None:
    pool = TokenizerPool()
    added = {"added_tokens_decoder": {"300": {"content": "<new>", "special": True}}}
    one, other, family = (
        pool.load(path),
        pool.load(path, tokenizer_config=added),
        pool.load(path, model_type="kimi"),
    )
    assert len({id(one), id(other), id(family)}) == 3
    assert pool.load(path, tokenizer_config=dict(added)) is other
    path.write_text(path.read_text() + " ")
    assert pool.load(path) is not one


def test_who_comes_together_gets_the_same(path: Path) -> None:
    pool, start = TokenizerPool(), threading.Barrier(8)

    def load() -> int:
        start.wait(10)
        return id(kept.setdefault(threading.get_ident(), pool.load(path)))

    kept: dict[int, object] = {}
    with ThreadPoolExecutor(8) as threads:
        found = {future.result(20) for future in [threads.submit(load) for _ in range(8)]}
    assert len(found) == 1


def test_a_tokenizer_nobody_uses_is_let_go(path: Path) -> None:
    pool = TokenizerPool()
    kept = pool.load(path)
    assert len(pool) == 1
    del kept
    gc.collect()
    assert len(pool) == 0


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_what_cannot_be_loaded_is_refused_each_time(tmp_path: Path, content: bytes | None) -> None:
    path, pool = tmp_path / "tokenizer.json", TokenizerPool()
    if content is not None:
        path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(CardError, match=r"tokenizer\.json"):
            pool.load(path)
    path.write_bytes((write_tiny_model(_made(tmp_path / "tiny")) / "tokenizer.json").read_bytes())
    assert pool.load(path).vocab_size > 0


def test_models_share_a_tokenizer_and_nothing_else(tmp_path: Path) -> None:
    pool = TokenizerPool()
    models = [
        Preprocessor.load(
            ModelFiles.of_directory(write_tiny_model(_made(tmp_path / name))),
            context_length=length,
            tokenizers=pool,
        )
        for name, length in (("one", 100), ("two", 200))
    ]
    assert models[0].tokenizer is models[1].tokenizer
    assert [model.context_length for model in models] == [100, 200]
