"""Claim: turning tokens into text costs the frontend well under a microsecond a token.

Usage: python benchmarks/detokenize.py MODEL_DIRECTORY [--tokens N] [--repeat R]

Prints JSON: microseconds per token (the best of R runs, one process, one thread) on text in several
scripts, for our detokenizer alone and under the stop checker, beside the streaming decoder of the
``tokenizers`` package in the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import tokenizers
from tokenizers.decoders import DecodeStream

from muster.llm.protocol import StopConditions
from muster.llm.stops import StopChecker, StopRules
from muster.llm.tokenizer import Tokenizer

TEXT = (
    "The quick brown fox jumps over the lazy dog; it doesn't look back, and nobody knows why. "
    "Der schnelle braune Fuchs springt über den trägen Hund. Größe: 3,14159 m². "
    "敏捷的棕色狐狸跳过了懒狗。そして誰もいなくなった。 "
    "def f(x: int) -> list[int]:\n    return [x ** 2 for _ in range(10)]\n\n🙂🙃 "
)
STOPS = ["\n\nHuman:", "<|im_end|>", "</answer>", "Observation:"]

Chunks = list[list[int]]


def chunked(ids: list[int], size: int) -> Chunks:
    return [ids[at : at + size] for at in range(0, len(ids), size)]


def plain(tokenizer: Tokenizer, chunks: Chunks) -> None:
    push = tokenizer.new_detokenizer().push
    for chunk in chunks:
        push(chunk)


def stopping(tokenizer: Tokenizer, rules: StopRules, chunks: Chunks) -> None:
    push = StopChecker(rules, tokenizer.new_detokenizer()).push
    for chunk in chunks:
        push(chunk)


def library(hf: tokenizers.Tokenizer, chunks: Chunks) -> None:
    step = DecodeStream(skip_special_tokens=True).step
    for chunk in chunks:
        for token_id in chunk:
            step(hf, token_id)


def best_us(work: Callable[[], None], tokens: int, repeat: int) -> float:
    best = float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return round(best / tokens * 1e6, 4)


def measure(directory: Path, tokens: int, repeat: int) -> dict[str, float]:
    path = directory / "tokenizer.json"
    tokenizer, hf = Tokenizer.load(path), tokenizers.Tokenizer.from_file(str(path))
    once = tokenizer.encode(TEXT)
    ids = (once * (tokens // len(once) + 1))[:tokens]
    without = StopRules.of(StopConditions(max_tokens=tokens + 1), eos_token_ids=[1])
    with_stops = StopRules.of(StopConditions(stop=STOPS), eos_token_ids=[1])
    results = {}
    for size in (1, 8):
        chunks = chunked(ids, size)
        cases: dict[str, Callable[[], None]] = {
            "push": partial(plain, tokenizer, chunks),
            "push_with_stop_checker": partial(stopping, tokenizer, without, chunks),
            "push_with_stop_strings": partial(stopping, tokenizer, with_stops, chunks),
            "tokenizers_decode_stream": partial(library, hf, chunks),
        }
        for name, work in cases.items():
            results[f"{name}_by_{size}"] = best_us(work, tokens, repeat)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="model directory with a tokenizer.json")
    parser.add_argument("--tokens", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    report = {
        "benchmark": "detokenize",
        "command": sys.argv,
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), "tokenizers": version("tokenizers")},
        "tokens": options.tokens,
        "us_per_token": measure(options.model, options.tokens, options.repeat),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
